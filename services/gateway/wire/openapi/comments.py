"""What do the protos say in words? Comments by the full name of what they stand at."""

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2

_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_IN_MESSAGE = {2: "field", 3: "nested_type", 4: "enum_type"}
_IN_ENUM = {2: "value"}
_IN_SERVICE = {2: "method"}
_TOP = {_MESSAGE: ("message_type", _IN_MESSAGE), _ENUM: ("enum_type", _IN_ENUM), _SERVICE: ("service", _IN_SERVICE)}


@cache
def comments() -> dict[str, str]:
    """Full name → leading comment, of every message, field, enum, value, service and method."""
    data = files("perennial.v1").joinpath("descriptors.binpb").read_bytes()
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        for location in file.source_code_info.location:
            name = _name(file, list(location.path)) if location.leading_comments else ""
            if name:
                found[name] = " ".join(location.leading_comments.split())
    return found


def _name(file: Any, path: list[int]) -> str:
    """The full name of what a path of numbers leads to; empty when it is no declaration."""
    if len(path) % 2 or not path or path[0] not in _TOP:
        return ""
    field, inside = _TOP[path[0]]
    here, names = getattr(file, field)[path[1]], [file.package]
    names.append(here.name)
    for number, place in zip(path[2::2], path[3::2], strict=True):
        if number not in inside:
            return ""
        here = getattr(here, inside[number])[place]
        inside = _IN_ENUM if inside[number] == "enum_type" else inside
        names.append(here.name)
    return ".".join(names)
