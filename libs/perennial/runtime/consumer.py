"""How does a service read events so that none is lost?

At least once and in order per partition: an event is acknowledged after its handler returned. What cannot be decoded,
or is refused, goes to the dead letter first; any other failure is tried again with back-off for ever, while the other
partitions go on. A watchdog rebuilds a consumer that has lag and stands still.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perennial import metrics
from perennial.runtime import crash, events, telemetry, tracing
from perennial.runtime.bus import Bus
from perennial.runtime.events import Received, Refused, Undecodable
from perennial.runtime.kafka import started
from perennial.topics import Topic

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

Handle = Callable[[Received], Awaitable[None]]
COMMIT_S = 0.5
STALLED_S = 15.0
POLL_MS = 1000
BATCH = 200
BUSY_S = 2.0
BUSY_WAIT_MS = 50
QUIET_WAIT_MS = 250
_LOG = telemetry.log(__name__)


class Reading:
    """What a group does with the events of one topic."""

    def __init__(self, bus: Bus, topic: Topic, *, group: str, handle: Handle, types: Collection[str] | None = None) -> None:
        self.topic = topic
        self._bus, self._group, self._handle = bus, group, handle
        self._types = None if types is None else {name.encode() for name in types}
        self.problem: str | None = "not connected yet"
        """What is wrong now, for the readiness detail."""
        labels = (topic.name, group)
        self._consumed = telemetry.metric(metrics.EVENTS_CONSUMED).labels(*labels)
        self._retried = telemetry.metric(metrics.EVENTS_RETRIED).labels(*labels)
        self.lag = telemetry.metric(metrics.CONSUMER_LAG).labels(*labels)

    async def take(self, record: "ConsumerRecord[bytes, bytes]") -> None:
        """Have one record's effect, whatever it takes."""
        headers = dict(record.headers)
        if self._types is not None and headers.get("ce_type") not in self._types:
            return
        try:
            event = events.received(record, topic=self.topic.name)
        except Undecodable as error:
            await self._bury(record, str(error), 1)
            return
        tracing.enter(headers.get("traceparent", b"").decode("ascii", "replace"))
        events.handling(event)
        attempts, delay = 0, 0.1
        while True:
            attempts += 1
            try:
                with tracing.span(f"{self.topic.name} {event.type}"):
                    await self._handle(event)
                crash.point("consumer.after_handle")
            except Refused as error:
                await self._bury(record, str(error), attempts)
                return
            except Exception as error:  # noqa: BLE001 retried for ever: the effect must happen
                self._retried.inc()
                self.problem = f"{event.type} {event.id}: {type(error).__name__}: {error}"
                _LOG.warning("an event is tried again", type=event.type, id=event.id, attempts=attempts, exc_info=error)
            else:
                self.problem = None
                self._consumed.inc()
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, 10.0)

    async def _bury(self, record: "ConsumerRecord[bytes, bytes]", reason: str, attempts: int) -> None:
        """Dead-letter the record; it is acknowledged only after this has worked."""
        delay = 0.2
        while True:
            try:
                await self._bus.dead_letter(record, reason, attempts=attempts, group=self._group)
            except Exception as error:  # noqa: BLE001 it must not be lost
                self.problem = f"dead letter: {error}"
                await asyncio.sleep(delay)
                delay = min(delay * 2, 10.0)
            else:
                _LOG.warning("an event went to the dead letter", topic=self.topic.name, offset=record.offset, reason=reason)
                return


class Consumer:
    """One group's reading of its topics through one client, rebuilt as often as needed."""

    def __init__(self, bus: Bus, group: str) -> None:
        self.bus, self.group = bus, group
        self.readings: dict[str, Reading] = {}
        """By the topic's name on the broker."""

    def add(self, topic: Topic, handle: Handle, types: Collection[str] | None) -> Reading:
        """Read one more topic, before it runs."""
        name = self.bus.config.prefixed(topic.name)
        if name in self.readings:
            raise ValueError(f"{self.group} reads {topic.name} already")
        self.readings[name] = Reading(self.bus, topic, group=self.group, handle=handle, types=types)
        return self.readings[name]

    def problem(self, text: str | None) -> None:
        """Say of every topic what is wrong."""
        for reading in self.readings.values():
            reading.problem = text

    async def run(self) -> None:
        """Consume until cancelled; what was done is committed on the way out."""
        while True:
            session = _Session(self)
            await session.run()
            telemetry.metric(metrics.CONSUMER_RESTARTS).labels(self.group).inc()


class _Session:
    """One connected consumer, from start to the failure that ends it."""

    def __init__(self, owner: Consumer) -> None:
        self._owner = owner
        self._workers: dict[TopicPartition, asyncio.Task[None]] = {}
        self._done: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._progress = self._last = 0.0

    async def run(self) -> None:
        consumer = self._owner.bus.consumer([], group=self._owner.group)
        self._consumer: AIOKafkaConsumer = consumer
        consumer.subscribe(list(self._owner.readings), listener=_listener(self))
        try:
            await started(consumer)
            self._owner.problem(None)
            await self._loop()
        except asyncio.CancelledError:
            await asyncio.shield(self._close())
            raise
        except Exception as error:  # noqa: BLE001 every failure ends in a new consumer
            text = f"{type(error).__name__}: {error}"
            self._owner.problem(text)
            _LOG.warning("a consumer is rebuilt", group=self._owner.group, error=text)
        await asyncio.shield(self._close())
        await asyncio.sleep(1.0)

    async def _loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._progress = next_commit = loop.time()
        while True:
            batches = await asyncio.wait_for(self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH), 30)
            for partition, records in batches.items():
                self._consumer.pause(partition)  # resumed by its worker: no more is fetched than is worked on
                self._workers[partition] = asyncio.create_task(self._work(partition, records))
            self._pace(loop.time(), arrived=bool(batches))
            if loop.time() >= next_commit:
                await self._commit()
                next_commit = loop.time() + COMMIT_S
                await self._watch(loop.time())

    def _pace(self, now: float, *, arrived: bool) -> None:
        """Ask the broker less often while nothing comes: twenty times a second costs 0.8 % of a core a client.

        The wait matters for the partitions that are not in the request under way, that is for bursts only.
        """
        if arrived:
            self._progress = self._last = now
        wait_ms = BUSY_WAIT_MS if now - self._last < BUSY_S else QUIET_WAIT_MS
        fetcher: Any = getattr(self._consumer, "_fetcher", None)
        if hasattr(fetcher, "_fetch_max_wait_ms"):  # aiokafka 0.14 reads it at every request
            fetcher._fetch_max_wait_ms = wait_ms  # noqa: SLF001

    async def _work(self, partition: "TopicPartition", records: "list[ConsumerRecord[bytes, bytes]]") -> None:
        reading = self._owner.readings[partition.topic]
        for record in records:
            await reading.take(record)
            self._done[partition] = record.offset + 1
        self._progress = asyncio.get_running_loop().time()
        with suppress(Exception):  # the partition may have been taken away meanwhile
            self._consumer.resume(partition)

    async def _watch(self, now: float) -> None:
        """Raise when nothing has come for a while, nobody works, and yet there is lag."""
        lags = dict.fromkeys(self._owner.readings, 0)
        for partition in self._consumer.assignment():
            end, position = self._consumer.highwater(partition), self._done.get(partition)
            lags[partition.topic] += max(end - position, 0) if end is not None and position is not None else 0
        for topic, lag in lags.items():
            self._owner.readings[topic].lag.set(lag)
        busy = any(not worker.done() for worker in self._workers.values())
        if busy or now - self._progress <= STALLED_S:
            return
        waiting = await asyncio.wait_for(self._behind(), 10)
        if waiting:
            raise RuntimeError(f"no progress for {STALLED_S:g} s with {waiting} events waiting")
        self._progress = now

    async def _behind(self) -> int:
        """How many records the broker has that were not fetched."""
        partitions = list(self._consumer.assignment())
        ends = await self._consumer.end_offsets(partitions) if partitions else {}
        return sum([max(end - await self._consumer.position(partition), 0) for partition, end in ends.items()])

    async def _commit(self) -> None:
        from aiokafka.errors import CommitFailedError, IllegalStateError

        owned = self._consumer.assignment()
        news = {p: n for p, n in self._done.items() if p in owned and self._committed.get(p) != n}
        if news:
            try:
                await asyncio.wait_for(self._consumer.commit(news), 5)
            except (CommitFailedError, IllegalStateError) as error:
                _LOG.info("a commit came too late; the events will come again", error=str(error))
                return
            self._committed.update(news)

    async def revoked(self, partitions: "Collection[TopicPartition]") -> None:
        """Stop working on partitions that go to somebody else, and commit what is done."""
        workers = [self._workers.pop(partition) for partition in partitions if partition in self._workers]
        await _ended(workers)
        with suppress(Exception):  # uncommitted work comes again, at least once
            await self._commit()
        for partition in partitions:
            self._done.pop(partition, None)
            self._committed.pop(partition, None)

    async def _close(self) -> None:
        await _ended(list(self._workers.values()))
        with suppress(Exception):  # uncommitted work comes again, at least once
            await self._commit()
        with suppress(Exception):
            await asyncio.wait_for(self._consumer.stop(), 5)


async def _ended(workers: list[asyncio.Task[None]]) -> None:
    for worker in workers:
        worker.cancel()
    if workers:
        await asyncio.wait(workers, timeout=3)


def _listener(session: _Session) -> Any:
    from aiokafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_revoked(self, revoked: Any) -> None:
            await session.revoked(revoked)

        async def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002 aiokafka asks for it
            return None

    return Listener()
