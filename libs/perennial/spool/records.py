"""What stands in a spool?

A record is ``length, crc32, payload``; the payload's first byte is its kind. One call is one record with a part for every
stream it touched, so a call is in the spool whole or not at all. Layouts are little-endian and carry no names: those stand
once, in the record that opens a stream.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

HEAD = struct.Struct("<II")
OPENED, CALL, MESSAGE = 1, 2, 3
LARGEST = 256 * 1024 * 1024
_CALL = struct.Struct("<BBHd")  # kind, parts, length of the request id, wall time
_PART = struct.Struct("<IQIfBBHII")
# ordinal, first_n, rows, latency, status, has keys, number of text columns, bytes of numbers, bytes of outputs
_MESSAGE = struct.Struct("<BBIQ")  # kind, length of the type's name, ordinal, the stream's next_n
_OPENED = struct.Struct("<BIQ")  # kind, ordinal, next_n
_ANSWER = struct.Struct("<16sI")
_COUNT = struct.Struct("<I")
_unpack_count = _COUNT.unpack_from

Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a reader must know of a stream to make sense of its parts."""

    deployment: str
    model: str
    version: str
    variant: str
    signature_digest: str = ""
    number_names: tuple[str, ...] = ()
    text_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ("prediction",)
    """Columns of the output matrix."""
    classes: tuple[str, ...] = ()
    """The label of each output column (classification)."""


class Text(NamedTuple):
    """A dictionary-coded text column: int32 codes as bytes (-1 = null) and the values."""

    codes: Bytes
    values: Sequence[str]


class Part(NamedTuple):
    """Consecutive rows of one stream: times int64, numbers and outputs float32 row-major, all as bytes."""

    ordinal: int
    first_n: int
    rows: int
    latency_s: float
    status: int
    times: Bytes
    numbers: Bytes
    outputs: Bytes
    texts: Sequence[Text]
    keys: Text | None


class Call(NamedTuple):
    """One answered call; ``answer`` is there when it had a request id."""

    wall_s: float
    request_id: str
    body: bytes
    answer: bytes
    parts: list[Part]


class Control(NamedTuple):
    """A whole message of events.proto under a stream's key; ``next_n`` is the stream's next position then."""

    ordinal: int
    next_n: int
    type: str
    value: bytes


class Opened(NamedTuple):
    """A stream begins, or goes on in a new segment: ``next_n`` is the next position to come."""

    ordinal: int
    next_n: int
    info: StreamInfo


def framed(payload: bytes) -> bytes:
    """The record of a payload."""
    return HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def opened(ordinal: int, next_n: int, info: StreamInfo) -> bytes:
    """The record that names a stream; every segment that uses it has one."""
    return framed(_OPENED.pack(OPENED, ordinal, next_n) + json.dumps(asdict(info)).encode())


def control(ordinal: int, next_n: int, type_name: str, value: bytes) -> bytes:
    """The record of a message."""
    name = type_name.encode()
    return framed(_MESSAGE.pack(MESSAGE, len(name), ordinal, next_n) + name + value)


def call(parts: Sequence[Part], wall_s: float, request_id: str = "", body: bytes = b"", answer: bytes = b"") -> bytes:
    """The record of a call; ``body`` is a digest of 16 bytes when there is a request id."""
    pieces: list[Bytes]
    if request_id:
        name = request_id.encode()
        pieces = [_CALL.pack(CALL, len(parts), len(name), wall_s), name, _ANSWER.pack(body, len(answer)), answer]
    else:
        pieces = [_CALL.pack(CALL, len(parts), 0, wall_s)]
    for part in parts:
        ordinal, first_n, rows, latency, status, times, numbers, outputs, texts, keys = part
        pieces += (
            _PART.pack(ordinal, first_n, rows, latency, status, keys is not None, len(texts), len(numbers), len(outputs)),
            times, numbers, outputs,
        )  # fmt: skip
        for text in texts:
            _add_text(pieces, text)
        if keys is not None:
            _add_text(pieces, keys)
    return framed(b"".join(pieces))


def _add_text(pieces: list[Bytes], text: Text) -> None:
    codes, values = text
    pieces += (codes, _COUNT.pack(len(values)))
    for value in values:
        data = value.encode()
        pieces += (_COUNT.pack(len(data)), data)


def read(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Each whole record from the start of ``data``: the offset behind it and its payload. Ends at the first that is torn."""
    at, end = 0, len(data)
    while at + HEAD.size <= end:
        length, checksum = HEAD.unpack_from(data, at)
        stop = at + HEAD.size + length
        if length == 0 or stop > end:
            return
        payload = data[at + HEAD.size : stop]
        if zlib.crc32(payload) != checksum:
            return
        yield stop, payload
        at = stop


def parse(payload: memoryview) -> Opened | Call | Control:
    """The record of a payload; the parts' bytes are views of it."""
    kind = payload[0]
    if kind == OPENED:
        _, ordinal, next_n = _OPENED.unpack_from(payload)
        data = json.loads(bytes(payload[_OPENED.size :]))
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        info = StreamInfo(**fields)
        return Opened(ordinal, next_n, info)
    if kind == MESSAGE:
        _, length, ordinal, next_n = _MESSAGE.unpack_from(payload)
        at = _MESSAGE.size
        return Control(ordinal, next_n, str(payload[at : at + length], "utf-8"), bytes(payload[at + length :]))
    return _parse_call(payload)


def _parse_call(payload: memoryview) -> Call:
    _, parts, length, wall_s = _CALL.unpack_from(payload)
    at = _CALL.size
    request_id, body, answer = "", b"", b""
    if length:
        request_id = str(payload[at : at + length], "utf-8")
        body, size = _ANSWER.unpack_from(payload, at + length)
        at += length + _ANSWER.size
        answer = bytes(payload[at : at + size])
        at += size
    found = []
    for _ in range(parts):
        part, at = _parse_part(payload, at)
        found.append(part)
    return Call(wall_s, request_id, body, answer, found)


def _parse_part(payload: memoryview, at: int) -> tuple[Part, int]:
    ordinal, first_n, rows, latency, status, has_keys, texts, numbers, outputs = _PART.unpack_from(payload, at)
    times_at = at + _PART.size
    numbers_at = times_at + rows * 8
    outputs_at = numbers_at + numbers
    at = outputs_at + outputs
    columns: list[Text] = []
    keys = None
    for place in range(texts + has_keys):
        codes_at, at = at, at + rows * 4
        (count,) = _unpack_count(payload, at)
        at += 4
        if count == 1:
            (length,) = _unpack_count(payload, at)
            values = [str(payload[at + 4 : at + 4 + length], "utf-8")]
            at += 4 + length
        else:
            values, at = _parse_values(payload, at, count)
        text = Text(payload[codes_at : codes_at + rows * 4], values)
        if place < texts:
            columns.append(text)
        else:
            keys = text
    part = Part(
        ordinal, first_n, rows, latency, status, payload[times_at:numbers_at], payload[numbers_at:outputs_at],
        payload[outputs_at : outputs_at + outputs], columns, keys,
    )  # fmt: skip
    return part, at


def _parse_values(payload: memoryview, at: int, count: int) -> tuple[list[str], int]:
    values = []
    for _ in range(count):
        (length,) = _unpack_count(payload, at)
        at += 4
        values.append(str(payload[at : at + length], "utf-8"))
        at += length
    return values, at
