"""In which form does the caller want the answer?"""

from dataclasses import dataclass

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"
_NDJSON_NAMES = (NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an Accept header asks for."""

    stream: str = EVENT_STREAM
    """How many answers travel: server-sent events, or a JSON text a line."""
    packed: bool = False
    """Frames as proto3 JSON instead of rows: ``application/json; frames=packed``."""


def wanted(header: str) -> Wanted:
    """The wish of an Accept header; the first form it names that there is, else the usual one."""
    packed, stream = False, ""
    for choice in header.lower().split(","):
        kind, *parameters = (part.strip() for part in choice.split(";"))
        packed = packed or "frames=packed" in parameters
        if not stream and kind in _NDJSON_NAMES:
            stream = NDJSON
        elif not stream and kind == EVENT_STREAM:
            stream = EVENT_STREAM
    return Wanted(stream or EVENT_STREAM, packed)


def is_lines(content_type: str) -> bool:
    """Whether a body is a JSON text a line."""
    return content_type.split(";", maxsplit=1)[0].strip().lower() in _NDJSON_NAMES
