"""What lies in the dead letters, and how does it come back?

A dead letter keeps the key, bytes and headers of the event as it came, with the reason beside them. Replaying sends the
same event (same id) to its topic again, for readers that can now take it; what was replayed is remembered by position
in the consumer group ``dlq-replay``, so a second replay does not send it twice.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from perennial.errors import NotFound
from perennial.runtime.bus import Bus
from perennial.runtime.kafka import started
from perennial.topics import Topic

READ_S = 30.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that nobody could take."""

    topic: Topic
    """Where it came from."""
    partition: int
    offset: int
    """Its position in the dead-letter topic."""
    reason: str
    attempts: int
    group: str
    origin: tuple[int, int]
    """Partition and offset where it was read; with the topic they name it."""
    at: datetime
    key: bytes
    value: bytes
    headers: dict[str, bytes]

    @property
    def type(self) -> str:
        """The event's type, as it claims."""
        return self.headers.get("ce_type", b"").decode("utf-8", "replace")

    @property
    def id(self) -> str:
        """The event's id, as it claims."""
        return self.headers.get("ce_id", b"").decode("utf-8", "replace")


async def letters(bus: Bus, topic: Topic) -> list[DeadLetter]:
    """All dead letters of a topic, oldest first within a partition."""
    return [letter async for letter in _read(bus, topic)]


async def show(bus: Bus, topic: Topic, partition: int, offset: int) -> DeadLetter:
    """One dead letter; ``NotFound`` when there is none at that position."""
    for letter in await letters(bus, topic):
        if (letter.partition, letter.offset) == (partition, offset):
            return letter
    raise NotFound(f"no dead letter of {topic.name} at {partition}/{offset}")


async def replay(bus: Bus, topic: Topic, *, partition: int | None = None, offset: int | None = None) -> int:
    """Send dead letters to their topic again: one by its position, or all not yet replayed. How many were sent."""
    if partition is not None and offset is not None:
        await _send(bus, await show(bus, topic, partition, offset))
        return 1
    from aiokafka import TopicPartition

    waiting = await letters(bus, topic)
    places = {letter.partition: TopicPartition(bus.config.prefixed(topic.dlq.name), letter.partition) for letter in waiting}
    if not waiting:
        return 0
    consumer = bus.consumer([], group=f"dlq-replay-{topic.name}")
    consumer.assign(list(places.values()))
    sent = 0
    try:
        await started(consumer)
        done = {number: await asyncio.wait_for(consumer.committed(place), 10) or 0 for number, place in places.items()}
        for letter in waiting:
            if letter.offset >= done[letter.partition]:
                await _send(bus, letter)
                await asyncio.wait_for(consumer.commit({places[letter.partition]: letter.offset + 1}), 10)
                sent += 1
    finally:
        await consumer.stop()
    return sent


async def _send(bus: Bus, letter: DeadLetter) -> None:
    headers = [(name, value) for name, value in letter.headers.items() if not name.startswith("dlq_")]
    await bus.produce(letter.topic, key=letter.key, value=letter.value, headers=headers)


async def _read(bus: Bus, topic: Topic) -> AsyncIterator[DeadLetter]:
    consumer = bus.consumer([topic.dlq], group=None)  # without a group it is given all partitions
    try:
        await started(consumer)
        partitions = sorted(consumer.assignment(), key=lambda one: one.partition)
        ends = await asyncio.wait_for(consumer.end_offsets(partitions), 10)
        for partition in partitions:
            async for record in _until(consumer, partition, ends[partition]):
                yield _letter(topic, record)
    finally:
        await consumer.stop()


async def _until(consumer: Any, partition: Any, end: int) -> AsyncIterator[Any]:
    while await asyncio.wait_for(consumer.position(partition), READ_S) < end:
        batch = await asyncio.wait_for(consumer.getmany(partition, timeout_ms=500), READ_S)
        for record in batch.get(partition, ()):
            if record.offset < end:
                yield record


def _letter(topic: Topic, record: Any) -> DeadLetter:
    headers = dict(record.headers)

    def fact(name: str, default: str = "") -> str:
        return str(headers.get(f"dlq_{name}", default.encode()).decode("utf-8", "replace"))

    return DeadLetter(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        reason=fact("reason"),
        attempts=int(fact("attempts", "0")),
        group=fact("group"),
        origin=(int(fact("partition", "-1")), int(fact("offset", "-1"))),
        at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        key=record.key or b"",
        value=record.value or b"",
        headers=headers,
    )
