"""Which JSON Schema has a message? proto3 JSON, with rows as lists of objects."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from services.gateway.wire.openapi.comments import comments

Schema = dict[str, Any]
_ROWS: Schema = {
    "type": "array",
    "items": {"type": "object", "additionalProperties": {"type": ["number", "string", "boolean", "null"]}},
    "description": "Rows as objects of named values.",
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
}
_LISTS: dict[str, Schema] = {
    "perennial.v1.Frame": _ROWS,
    "perennial.v1.TextColumn": {"type": "array", "items": {"type": ["string", "null"]}},
}
"""Messages that may be written as lists, and are answered so."""
_NOT_FINITE: Schema = {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}

_NUMBER: Schema = {"anyOf": [{"type": "number"}, _NOT_FINITE]}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_DOUBLE: _NUMBER,
    FieldDescriptor.CPPTYPE_FLOAT: _NUMBER,
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": ["string", "integer"], "format": "int64"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": ["string", "integer"], "format": "uint64"},
}


class Schemas:
    """The schemas of all messages that were asked for."""

    def __init__(self) -> None:
        self.found: dict[str, Schema] = {}

    def message(self, descriptor: Any) -> Schema:
        """A reference to a message's schema, which is made with everything it holds."""
        full_name = descriptor.full_name
        if full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[full_name])
        if descriptor.name not in self.found:
            self.found[descriptor.name] = {}
            self.found[descriptor.name].update(self._made(descriptor))
        return {"$ref": f"#/components/schemas/{descriptor.name}"}

    def field(self, field: Any) -> Schema:
        """The schema of a field, with its comment."""
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            schema: Schema = {"type": "object", "additionalProperties": self._single(kind.fields_by_name["value"])}
        elif field.is_repeated:
            schema = {"type": "array", "items": self._single(field)}
        else:
            schema = self._single(field)
        return _described(schema, field.full_name)

    def _made(self, descriptor: Any) -> Schema:
        schema: Schema = {"type": "object"}
        if descriptor.fields:
            schema["properties"] = {field.json_name: self.field(field) for field in descriptor.fields}
        if descriptor.full_name in _LISTS:
            schema = {"anyOf": [dict(_LISTS[descriptor.full_name]), schema]}
        return _described(schema, descriptor.full_name)

    def _single(self, field: Any) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        return _scalar(field)

    def _enum(self, enum: Any) -> Schema:
        if enum.name not in self.found:
            words = comments()
            lines = [f"{value.name}: {words.get(f'{enum.full_name}.{value.name}', '')}" for value in enum.values]
            about = " ".join([words.get(enum.full_name, ""), *lines]).strip()
            self.found[enum.name] = {"type": "string", "enum": [value.name for value in enum.values], "description": about}
        return {"$ref": f"#/components/schemas/{enum.name}"}


def _scalar(field: Any) -> Schema:
    schema = _SCALARS.get(field.cpp_type, {})
    return {"type": "string", "contentEncoding": "base64"} if field.type == field.TYPE_BYTES else dict(schema)


def _described(schema: Schema, full_name: str) -> Schema:
    text = comments().get(full_name, "")
    return {**schema, "description": text} if text else schema
