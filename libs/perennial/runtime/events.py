"""What does an event look like on Kafka?

CloudEvents 1.0, binary mode: attributes are headers, the value is one message of ``events.proto`` (protobuf, or JSON
from outside producers). ``correlation_id`` is the id of the chain's first event, ``causation_id`` of the one just
before; both come by themselves from the event being handled.
"""

import uuid
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from perennial.runtime import tracing
from perennial.topics import Topic

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

PROTOBUF = "application/protobuf"
JSON = "application/json"
Headers = list[tuple[str, bytes]]


class Undecodable(Exception):
    """The bytes are not a message this platform knows; the event belongs in the dead letter."""


class Refused(Exception):
    """Raised by a handler: this event can never be right, it goes to the dead letter with this reason."""


def new_id() -> str:
    """A fresh event id."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Event:
    """One fact to publish. ``time`` is event time (default: now); the record's own timestamp stays wall time."""

    topic: Topic
    key: str
    message: Message
    subject: str = ""
    time: datetime | None = None
    aggregate: str = ""
    aggregate_version: int = 0
    rows: int = 0
    id: str = field(default_factory=new_id)
    correlation_id: str = ""
    causation_id: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """One fact read from a topic."""

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    correlation_id: str
    causation_id: str
    aggregate: str
    aggregate_version: int
    key: bytes
    message: Message
    headers: dict[str, bytes]
    topic: str
    """The topic's bare name."""
    partition: int
    offset: int
    value: bytes = b""
    """The bytes as they came."""


_CURRENT: ContextVar[Received | None] = ContextVar("perennial_event", default=None)


def current_event() -> Received | None:
    """The event being handled, or None."""
    return _CURRENT.get()


def handling(event: Received | None) -> None:
    """Set the event that what follows in this task is caused by."""
    _CURRENT.set(event)


def headers_of(event: Event, *, source: str) -> Headers:
    """The headers of an outgoing event; fills the chain's ids from the event being handled."""
    cause = _CURRENT.get()
    correlation = event.correlation_id or (cause.correlation_id if cause else "") or event.id
    causation = event.causation_id or (cause.id if cause else "") or event.id
    time = (event.time or datetime.now(UTC)).astimezone(UTC)
    pairs = [
        ("ce_specversion", "1.0"),
        ("ce_id", event.id),
        ("ce_source", source),
        ("ce_type", event.message.DESCRIPTOR.name),
        ("ce_time", time.isoformat(timespec="microseconds").replace("+00:00", "Z")),
        ("ce_correlationid", correlation),
        ("ce_causationid", causation),
        ("content-type", PROTOBUF),
        ("traceparent", tracing.traceparent()),
    ]
    if event.subject:
        pairs.append(("ce_subject", event.subject))
    if event.rows:
        pairs.append(("ce_rows", str(event.rows)))
    if event.aggregate:
        pairs += [("ce_aggregate", event.aggregate), ("ce_aggregateversion", str(event.aggregate_version))]
    return [(name, text.encode()) for name, text in pairs]


def decode(headers: Mapping[str, bytes] | Iterable[tuple[str, bytes]], value: bytes) -> Message:
    """The message in ``value``; :class:`Undecodable` says why it cannot be read."""
    table = dict(headers)
    name = table.get("ce_type", b"").decode("utf-8", "replace")
    kind = _message_types().get(name)
    if kind is None:
        raise Undecodable(f"ce_type {name!r} is no message of events.proto")
    content = table.get("content-type", PROTOBUF.encode()).decode("utf-8", "replace").split(";")[0].strip()
    message = kind()
    try:
        if content == JSON:
            json_format.Parse(value, message)
        elif content == PROTOBUF:
            message.ParseFromString(value)
        else:
            raise Undecodable(f"content-type {content!r} is neither {PROTOBUF} nor {JSON}")
    except (DecodeError, json_format.ParseError, UnicodeDecodeError) as error:
        raise Undecodable(f"not a {name} as {content}: {error}") from error
    return message


def received(record: "ConsumerRecord[bytes, bytes]", *, topic: str) -> Received:
    """The event in a Kafka record; :class:`Undecodable` when there is none."""
    headers = dict(record.headers)
    if record.value is None:
        raise Undecodable("the record has no value")
    message = decode(headers, record.value)
    text = {name: value.decode("utf-8", "replace") for name, value in headers.items() if name.startswith("ce_")}
    event_id = text.get("ce_id", "")
    if not event_id:
        raise Undecodable("the header ce_id is missing")
    return Received(
        id=event_id,
        type=text["ce_type"],
        source=text.get("ce_source", ""),
        subject=text.get("ce_subject", ""),
        time=_time(text.get("ce_time", ""), record.timestamp),
        correlation_id=text.get("ce_correlationid") or event_id,
        causation_id=text.get("ce_causationid") or event_id,
        aggregate=text.get("ce_aggregate", ""),
        aggregate_version=_number(text.get("ce_aggregateversion", "")),
        key=record.key or b"",
        message=message,
        headers=headers,
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        value=record.value,
    )


def _time(text: str, record_ms: int) -> datetime:
    if not text:
        return datetime.fromtimestamp(record_ms / 1000, UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise Undecodable(f"ce_time {text!r} is not an RFC 3339 time") from error
    if time.tzinfo is None:
        raise Undecodable(f"ce_time {text!r} has no time zone")
    return time.astimezone(UTC)


def _number(text: str) -> int:
    if not text:
        return 0
    try:
        return int(text)
    except ValueError as error:
        raise Undecodable(f"ce_aggregateversion {text!r} is not a number") from error


_TYPES: dict[str, type[Message]] = {}


def _message_types() -> dict[str, type[Message]]:
    if not _TYPES:
        from perennial.v1 import events_pb2

        for name in events_pb2.DESCRIPTOR.message_types_by_name:
            _TYPES[name] = getattr(events_pb2, name)
    return _TYPES
