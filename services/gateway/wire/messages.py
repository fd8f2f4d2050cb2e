"""A request message from path, query and body; JSON from an answer. Field names as in the proto or in lowerCamelCase."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from perennial.errors import InvalidArgument

from services.gateway.wire import frames

REQUEST_ID = "request_id"


def body_value(data: bytes) -> Any:
    """The JSON value of a body; an empty body is an empty object. InvalidArgument when it is no JSON."""
    if not data.strip():
        return {}
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"the body is no JSON: {error}") from None


def message_of(kind: Any, value: Any) -> Message:
    """The message of a JSON value; InvalidArgument says which field is unknown or wrong."""
    if not isinstance(value, dict):
        raise InvalidArgument(f"the body must be a JSON object, a {kind.DESCRIPTOR.name}")
    made: Message = kind()
    try:
        json_format.ParseDict(frames.packed(value, kind.DESCRIPTOR), made, max_recursion_depth=100)
    except json_format.ParseError as error:
        raise InvalidArgument(str(error)) from None
    except (RecursionError, ValueError, TypeError) as error:
        raise InvalidArgument(f"the body is no {kind.DESCRIPTOR.name}: {error}") from None
    return made


def request_of(
    kind: Any, *, variables: Mapping[str, str], query: Iterable[tuple[str, str]], body: str, value: Any, request_id: str = ""
) -> Message:
    """The request of a call.

    ``body`` says which field ``value`` fills (``*``: the message). InvalidArgument when a field is unknown, is given both in
    the path and otherwise in the body, or when a query has fields that the body covers.
    """
    descriptor = kind.DESCRIPTOR
    whole: dict[str, Any] = {}
    if body == "*":
        if not isinstance(value, dict):
            raise InvalidArgument(f"the body must be a JSON object, a {descriptor.name}")
        whole = dict(value)
    elif body:
        whole[body] = value
    for name, text in query:
        if body == "*":
            raise InvalidArgument(f"query parameter {name!r}: this call takes its fields in the body")
        _put(whole, descriptor, name, text)
    for name, text in variables.items():
        _put_variable(whole, descriptor, name, text)
    if request_id and REQUEST_ID in descriptor.fields_by_name and not (whole.get(REQUEST_ID) or whole.get("requestId")):
        whole[REQUEST_ID] = request_id
    return message_of(kind, whole)


def _put_variable(whole: dict[str, Any], descriptor: Any, name: str, text: str) -> None:
    field = descriptor.fields_by_name[name]
    for spelled in {field.name, field.json_name}:
        given = whole.pop(spelled, None)
        if given is not None and str(given) != text:
            raise InvalidArgument(f"{field.json_name} is {given!r} in the body and {text!r} in the path")
    whole[field.name] = text


def _put(whole: dict[str, Any], descriptor: Any, name: str, text: str) -> None:
    """Set a query's ``a.b=text`` in the JSON value of a message."""
    *parents, last = name.split(".")
    here = whole
    for parent in parents:
        field = _field(descriptor, parent, name)
        if field.message_type is None or field.is_repeated:
            raise InvalidArgument(f"query parameter {name!r}: {parent} has no fields")
        descriptor, here = field.message_type, here.setdefault(field.name, {})
        if not isinstance(here, dict):
            raise InvalidArgument(f"query parameter {name!r}: {parent} is given twice")
    field = _field(descriptor, last, name)
    value = _query_value(field, text, name)
    if field.is_repeated:
        here.setdefault(field.name, []).append(value)
    elif field.name in here:
        raise InvalidArgument(f"query parameter {name!r} is given twice")
    else:
        here[field.name] = value


def _query_value(field: Any, text: str, name: str) -> Any:
    if field.type == field.TYPE_BOOL:
        if text not in ("true", "false"):
            raise InvalidArgument(f"query parameter {name!r}: true or false, not {text!r}")
        return text == "true"
    if field.type == field.TYPE_ENUM and text.lstrip("-").isdigit():
        return int(text)
    if field.message_type is not None and not field.message_type.full_name.startswith("google.protobuf."):
        raise InvalidArgument(f"query parameter {name!r}: name one of its fields, as in {name}.x")
    return text


def _field(descriptor: Any, name: str, whole: str) -> Any:
    found = descriptor.fields_by_name.get(name) or next((f for f in descriptor.fields if f.json_name == name), None)
    if found is None:
        known = ", ".join(sorted(field.json_name for field in descriptor.fields))
        raise InvalidArgument(f"query parameter {whole!r}: {descriptor.name} has no {name}; it has {known or 'no fields'}")
    return found


def json_of(message: Message, *, packed: bool = False) -> bytes:
    """The JSON of an answer, every field present; rows as lists of objects unless ``packed``."""
    found = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    if not packed and frames.holds_rows(message.DESCRIPTOR):
        found = frames.readable(found, message)
    return orjson.dumps(found)


