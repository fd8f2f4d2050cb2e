"""How does an event reach Kafka, and what happens when it does not?

An idempotent producer never gives up a batch by itself, so every send has a deadline here; a producer that missed one
is closed, its own delivery timeout awaited, and only then does a new one send. Positions and events live above it
(spool, outbox), so nothing is lost when a send fails.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial import metrics
from perennial.errors import Unavailable
from perennial.runtime import telemetry
from perennial.runtime.config import ServiceConfig
from perennial.runtime.events import Event, Headers, Received, headers_of
from perennial.runtime.kafka import connection_settings, started
from perennial.topics import BY_NAME, Topic

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

DEADLINE_S = 4.0
REQUEST_MS = 4000
MESSAGE_BYTES = 8 * 1024 * 1024
_LOG = telemetry.log(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to send."""

    key: bytes
    value: bytes
    headers: Headers


class Bus:
    """Sending to, and consuming from, the platform's topics; names are bare, the namespace is added here."""

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.source = config.prefixed(config.service)
        self._producer: AIOKafkaProducer | None = None
        self._starting: asyncio.Task[AIOKafkaProducer] | None = None
        self._not_before = 0.0
        self._closing: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def produce(self, topic: Topic, *, key: bytes, value: bytes, headers: Headers, deadline_s: float = DEADLINE_S) -> None:
        """Return after the broker's acknowledgement; ``Unavailable`` when there is none in time (it may still come)."""
        failed = await self.produce_many(topic, [Outgoing(key, value, headers)], deadline_s=deadline_s)
        if failed:
            raise Unavailable(f"{topic.name}: no acknowledgement from Kafka at {self.config.kafka_bootstrap} in {deadline_s:g} s")

    async def produce_many(self, topic: Topic, records: Sequence[Outgoing], *, deadline_s: float = DEADLINE_S) -> list[int]:
        """Send in order, pipelined; the indexes of the records that were not acknowledged in time."""
        return await self.send([(topic.name, record) for record in records], deadline_s=deadline_s)

    async def publish(self, event: Event, *, deadline_s: float = DEADLINE_S) -> None:
        """Send an event at once, outside any transaction: for facts that need no outbox."""
        headers = headers_of(event, source=self.source)
        await self.produce(
            event.topic, key=event.key.encode(), value=event.message.SerializeToString(), headers=headers, deadline_s=deadline_s
        )

    async def send(self, records: Sequence[tuple[str, Outgoing]], *, deadline_s: float = DEADLINE_S) -> list[int]:
        """Send to topics by bare name; the indexes not acknowledged. A missed deadline replaces the producer."""
        pending: list[asyncio.Future[Any]] = []
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(deadline_s):
                producer = await self._ready()
                for name, record in records:
                    pending.append(
                        await producer.send(
                            self.config.prefixed(name), value=record.value, key=record.key, headers=record.headers
                        )
                    )
                await asyncio.wait(pending)
        except TimeoutError:
            self._discard(producer)
        except Exception as error:  # noqa: BLE001 any failure to send means the same: not acknowledged
            _LOG.warning("sending to Kafka failed", error=f"{type(error).__name__}: {error}")
            self._discard(producer)
        good = {index for index, future in enumerate(pending) if _acknowledged(future)}
        for name, count in Counter(records[index][0] for index in good).items():
            telemetry.metric(metrics.EVENTS_PUBLISHED).labels(name).inc(count)
        return [index for index in range(len(records)) if index not in good]

    async def dead_letter(
        self, event: "Received | ConsumerRecord[bytes, bytes]", reason: str, *, attempts: int = 1, group: str = ""
    ) -> None:
        """Put an event's bytes on its topic's dead letter with the reason; returns after the acknowledgement."""
        name = self.bare(event.topic)
        topic = BY_NAME.get(name) or Topic(name, 3, None, "")
        headers = list(event.headers.items() if isinstance(event.headers, dict) else event.headers)
        headers = [pair for pair in headers if not pair[0].startswith("dlq_")]
        facts = {"reason": reason[:2000], "topic": name, "partition": event.partition, "offset": event.offset,
                 "attempts": attempts, "group": group}  # fmt: skip
        headers += [(f"dlq_{fact}", str(value).encode()) for fact, value in facts.items()]
        await self.produce(topic.dlq, key=event.key or b"", value=event.value or b"", headers=headers)
        telemetry.metric(metrics.EVENTS_DEAD).labels(name).inc()

    def bare(self, topic: str) -> str:
        """A topic's name without the namespace."""
        return topic.removeprefix(f"{self.config.namespace}.") if self.config.namespace else topic

    def consumer(self, topics: Iterable[Topic], *, group: str | None, **options: Any) -> "AIOKafkaConsumer":
        """An aiokafka consumer (not started) with auto-commit off, for readers that keep their own positions."""
        from aiokafka import AIOKafkaConsumer

        settings: dict[str, Any] = {
            "group_id": self.config.prefixed(group) if group else None, "enable_auto_commit": False,
            "auto_offset_reset": "earliest", "fetch_max_wait_ms": 50, "request_timeout_ms": 20_000,
            "session_timeout_ms": 10_000, "heartbeat_interval_ms": 1000, "max_poll_interval_ms": 600_000,
            "retry_backoff_ms": 200, "max_partition_fetch_bytes": MESSAGE_BYTES, **connection_settings(self.config), **options,
        }  # fmt: skip
        return AIOKafkaConsumer(*(self.config.prefixed(topic.name) for topic in topics), **settings)

    async def reachable(self) -> str | None:
        """A readiness condition: None, or what is wrong."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._ready()
        except TimeoutError:
            return f"no answer from Kafka at {self.config.kafka_bootstrap}"
        except Exception as error:  # noqa: BLE001 whatever it is, it is the condition's text
            return f"{error} (a wrong password or CA looks the same as no broker)"
        return None

    async def flush(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait for what is on its way, at most ``deadline_s``."""
        if self._producer is not None:
            try:
                await asyncio.wait_for(self._producer.flush(), deadline_s)
            except Exception as error:  # noqa: BLE001 a stop goes on whatever happens
                _LOG.warning("flushing the producer failed", error=repr(error))

    async def close(self) -> None:
        """Flush and close the producer; nothing can be sent afterwards."""
        self._stopped = True
        await self.flush()
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting], timeout=6.0)
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)
        for task in list(self._closing):
            task.cancel()

    async def _ready(self) -> "AIOKafkaProducer":
        """The producer. Its start goes on when the caller's deadline has passed, for the next one."""
        if self._producer is not None:
            return self._producer
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._started())
            self._starting.add_done_callback(_noticed)
        return await asyncio.shield(self._starting)

    async def _started(self) -> "AIOKafkaProducer":
        from aiokafka import AIOKafkaProducer

        if self._stopped:
            raise Unavailable("this process is stopping")
        wait = self._not_before - asyncio.get_running_loop().time()
        if wait > 0:
            await asyncio.sleep(wait)
        producer = AIOKafkaProducer(
            enable_idempotence=True, request_timeout_ms=REQUEST_MS, max_request_size=MESSAGE_BYTES, retry_backoff_ms=100,
            **connection_settings(self.config),
        )  # fmt: skip
        try:
            await started(producer)
        except BaseException:
            await asyncio.shield(_stopped(producer))
            raise
        self._producer = producer
        return producer

    def _discard(self, producer: "AIOKafkaProducer | None") -> None:
        """Close a producer that missed its deadline; nobody sends until its last request has timed out too."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        self._not_before = asyncio.get_running_loop().time() + REQUEST_MS / 1000
        telemetry.metric(metrics.PRODUCER_RESTARTS).inc()
        task = asyncio.create_task(_stopped(producer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _noticed(task: "asyncio.Task[Any]") -> None:
    """Its failure was told to those who waited, if any did."""
    if not task.cancelled():
        task.exception()


def _acknowledged(future: "asyncio.Future[Any]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


async def _stopped(producer: Any) -> None:
    """Stop without waiting for batches that never expire."""
    try:
        await asyncio.wait_for(producer.stop(), 2.0)
    except Exception as error:  # noqa: BLE001 it is thrown away
        _LOG.debug("closing a producer failed", error=repr(error))
