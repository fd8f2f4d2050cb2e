"""Rows in JSON: a list of objects stands for a Frame, a list of texts for a text column, both ways."""

import base64
from functools import cache
from typing import Any

from google.protobuf.message import Message
from perennial.errors import InvalidArgument
from perennial.frames import Table, Text, decode, decode_text, encode
from perennial.v1.common_pb2 import Frame, TextColumn

_FRAME = Frame.DESCRIPTOR.full_name
_TEXTS = TextColumn.DESCRIPTOR.full_name


@cache
def holds_rows(message_type: Any) -> bool:
    """Whether messages of this type (a descriptor) can hold a Frame or a text column, however deep."""
    return _holds(message_type, set())


def _holds(message_type: Any, seen: set[str]) -> bool:
    if message_type.full_name in (_FRAME, _TEXTS):
        return True
    if message_type.full_name in seen or message_type.file.package.startswith("google."):
        return False
    seen.add(message_type.full_name)
    return any(_holds(field.message_type, seen) for field in message_type.fields if field.message_type)


def packed(value: Any, message_type: Any) -> Any:
    """The JSON value of a message with every list that stands for rows packed into proto3 JSON.

    InvalidArgument when rows do not agree.
    """
    if message_type.full_name == _FRAME and isinstance(value, list):
        return {"blocks": _blocks(encode(table_of(value)))}
    if message_type.full_name == _TEXTS and isinstance(value, list):
        return _column("", value)
    if not isinstance(value, dict) or not holds_rows(message_type):
        return value
    return {name: _packed_field(item, _field(message_type, name)) for name, item in value.items()}


def _packed_field(value: Any, field: Any) -> Any:
    if field is None or field.message_type is None or _is_map(field):
        return value
    if field.is_repeated and isinstance(value, list):
        return [packed(item, field.message_type) for item in value]
    return packed(value, field.message_type)


def table_of(rows: list[Any]) -> Table:
    """The table of rows given as objects: a column a row lacks is null there. InvalidArgument when rows do not agree."""
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidArgument(f"rows[{place}]: a row is an object of named values")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name, values in columns.items():
        kinds = {type(value) for value in values if value is not None}
        if kinds - {int, float, bool, str} or (str in kinds and len(kinds) > 1):
            raise InvalidArgument(f"column {name!r}: every value is a number or every value is a text")
    return Table.of(columns) if columns else Table(len(rows))


def _blocks(frame: Frame) -> dict[str, Any]:
    blocks = frame.blocks
    return {
        "rows": blocks.rows,
        "number_names": list(blocks.number_names),
        "numbers": base64.b64encode(blocks.numbers).decode(),
        "number_type": blocks.number_type,
        "texts": [_text(column) for column in blocks.texts],
    }


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    if wrong := next((value for value in values if not isinstance(value, str | None)), None):
        raise InvalidArgument(f"a list of texts holds {wrong!r}")
    text = Text.of(values)
    return {"name": name, "codes": base64.b64encode(text.codes.tobytes()).decode(), "values": list(text.values)}


def _text(column: TextColumn) -> dict[str, Any]:
    return {"name": column.name, "codes": base64.b64encode(column.codes).decode(), "values": list(column.values)}


def readable(found: Any, message: Message) -> Any:
    """The proto3 JSON of a message with every Frame and text column that can be read as a list."""
    kind = message.DESCRIPTOR.full_name
    if kind == _FRAME:
        assert isinstance(message, Frame)
        return _rows(found, message)
    if kind == _TEXTS:
        assert isinstance(message, TextColumn)
        return decode_text(message, len(message.codes) // 4).decoded().tolist()
    for field, value in message.ListFields():
        if field.message_type is None or _is_map(field) or not holds_rows(field.message_type):
            continue
        name = field.json_name
        if field.is_repeated:
            found[name] = [readable(item, part) for item, part in zip(found[name], value, strict=True)]
        else:
            found[name] = readable(found[name], value)
    return found


def _rows(found: Any, frame: Frame) -> Any:
    if frame.WhichOneof("encoding") is None:
        return []
    if frame.blocks.signature_digest and not frame.blocks.number_names:
        return found  # its columns are named by a signature that is not here
    return list(decode(frame).to_rows())


def _is_map(field: Any) -> bool:
    return bool(field.message_type.GetOptions().map_entry)


def _field(message_type: Any, name: str) -> Any:
    return message_type.fields_by_name.get(name) or next((f for f in message_type.fields if f.json_name == name), None)


