"""When is a transaction due? Records gather until a second or 5,000 rows, or until a producer asks for it (``flush``).

What cannot be read goes to the dead letter first; every other failure is tried again with back-off, for ever: a record
is acknowledged only when its effect is committed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from perennial import metrics
from perennial.errors import InvalidArgument, NotFound
from perennial.runtime import events, telemetry
from perennial.runtime.bus import Bus
from perennial.runtime.events import Undecodable
from perennial.topics import OUTCOMES as OUTCOMES_TOPIC
from perennial.v1 import events_pb2 as pb

from services.monitor.agent.catalog import Catalog
from services.monitor.agent.decode import one_outcome, unit_from
from services.monitor.agent.fold import Arrival, Folding
from services.monitor.config import MonitorConfig
from services.monitor.domain.deployments import Deployment
from services.monitor.domain.units import OUTCOMES, PREDICTIONS, Dead, Outcomes, Source

ROOM_ROWS = 40_000
ROOM_RECORDS = 4000
GATHER_S = 0.01
"""Predictions and outcomes of one moment come within milliseconds of each other: one transaction serves both."""
_LOG = telemetry.log(__name__)


@dataclass(slots=True)
class Record:
    """One record of a data topic, as it came."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]
    timestamp: float
    acknowledge: Callable[[], Awaitable[None]]
    message: Message | None = None
    wrong: str = ""
    buried: bool = False
    rows: int = field(default=1)

    @property
    def kind(self) -> str:
        """Of which kind its stream is."""
        return OUTCOMES if self.topic == OUTCOMES_TOPIC.name else PREDICTIONS

    def decoded(self) -> "Record":
        """The same, with its message, or what is wrong with it."""
        try:
            self.message = events.decode(self.headers, self.value)
        except Undecodable as error:
            self.wrong = str(error)
        self.rows = int(self.headers.get("ce_rows") or 1) if self.headers.get("ce_rows", b"1").isdigit() else 1
        return self

    @property
    def flush(self) -> bool:
        """Whether the producer asks for a commit at once."""
        return isinstance(self.message, pb.StreamProgress) and self.message.flush


class Collector:
    """Gathers records and commits them."""

    def __init__(
        self, config: MonitorConfig, bus: Bus, catalog: Catalog, folding: Folding, on_commit: Callable[[frozenset[str]], None]
    ) -> None:
        self._config, self._bus, self._catalog, self._folding, self._on_commit = config, bus, catalog, folding, on_commit
        self._pending: list[Record] = []
        self._rows = 0
        self._came = asyncio.Event()
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.done: dict[tuple[str, int], int] = {}
        """The offset after the last committed record of each partition."""
        self.problem: str | None = None

    async def put(self, record: Record) -> None:
        """Take a record; waits while too much is on its way."""
        await self._room.wait()
        self._pending.append(record.decoded())
        self._rows += record.rows
        self._came.set()
        if record.flush or self._rows >= self._config.commit_rows:
            self._due.set()
        if self._rows >= ROOM_ROWS or len(self._pending) >= ROOM_RECORDS:
            self._room.clear()

    async def condition(self) -> str | None:
        """What is wrong now, for the readiness detail."""
        return self.problem

    def revoked(self, partitions: set[tuple[str, int]]) -> None:
        """Forget what belongs to partitions that another worker has now; what is under way commits or is fenced."""
        self._folding.forget(partitions)
        self._pending = [record for record in self._pending if (record.topic, record.partition) not in partitions]
        self._rows = sum(record.rows for record in self._pending)
        for key in partitions:
            self.done.pop(key, None)
        self._room.set()

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self._came.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), self._config.commit_interval_s)
            await asyncio.sleep(GATHER_S)
            batch, self._pending, self._rows = self._pending, [], 0
            self._came.clear()
            self._due.clear()
            self._room.set()
            if batch:
                await self._committed(batch)

    async def _committed(self, batch: list[Record]) -> None:
        """Have the effect of a batch whatever it takes, then acknowledge it."""
        delay = 0.1
        while True:
            try:
                touched = await self._tried(batch)
                break
            except Exception as error:  # noqa: BLE001 the effect must happen
                self.problem = f"{type(error).__name__}: {error}"
                _LOG.warning("a commit is tried again", records=len(batch), exc_info=error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)
        self.problem = None
        for record in batch:
            self.done[record.topic, record.partition] = record.offset + 1
            await record.acknowledge()
            telemetry.metric(metrics.EVENTS_CONSUMED).labels(record.topic, "monitor-fold").inc()
        self._on_commit(touched)

    async def _tried(self, batch: list[Record]) -> frozenset[str]:
        arrivals: list[Arrival] = []
        known: dict[str, Deployment] = {}
        for record in batch:
            arrival = await self._arrival(record, known)
            if arrival is not None:
                arrivals.append(arrival)
        if not arrivals:
            return frozenset()
        committed = await self._folding.commit(arrivals, known)
        for deployment, rows in committed.counted.items():
            telemetry.metric(metrics.ROWS_COUNTED).labels(deployment).inc(rows)
        return committed.deployments

    async def _arrival(self, record: Record, known: dict[str, Deployment]) -> Arrival | None:
        """What a record says; a record that cannot be right is in the dead letter and leaves a gap where one can be told."""
        message: Any = record.message
        if message is not None and not record.wrong:
            try:
                deployment = known.get(message.deployment) or await self._catalog.get(message.deployment)
                known[message.deployment] = deployment
                return await self._unit(record, message, deployment)
            except (InvalidArgument, NotFound, AttributeError) as error:
                record.wrong = str(error)
        await self._bury(record, record.wrong)
        dead = dead_unit(record)
        if dead is None:
            return None
        try:
            known[dead.source.deployment] = await self._catalog.get(dead.source.deployment)
        except NotFound:
            return None
        return Arrival(record.topic, record.partition, dead)

    async def _unit(self, record: Record, message: Message, deployment: Deployment) -> Arrival:
        producer = record.headers.get("ce_producer", b"").decode("utf-8", "replace")
        now = datetime.fromtimestamp(record.timestamp, UTC)
        unit = unit_from(message, record.kind, deployment, now=now, producer=producer)
        if isinstance(unit, Outcomes) and unit.refused and isinstance(message, pb.OutcomeBatch) and not record.buried:
            for row, reason in unit.refused.items():
                await self._bury_row(record, one_outcome(message, row), f"row {row}: {reason}")
            record.buried = True
        return Arrival(record.topic, record.partition, unit)

    async def _bury(self, record: Record, reason: str) -> None:
        if not record.buried:
            await self._bus.dead_letter(record, reason, group="monitor-fold")
            record.buried = True
            _LOG.warning("a record went to the dead letter", topic=record.topic, offset=record.offset, reason=reason)

    async def _bury_row(self, record: Record, row: Message, reason: str) -> None:
        headers = {**record.headers, "content-type": events.PROTOBUF.encode(), "ce_rows": b"1"}
        single = Record(
            record.topic,
            record.partition,
            record.offset,
            record.key,
            row.SerializeToString(),
            headers,
            record.timestamp,
            record.acknowledge,
        )
        await self._bus.dead_letter(single, reason, group="monitor-fold")


def dead_unit(record: Record) -> Dead | None:
    """The positions of a record that went to the dead letter, as its message or its headers tell."""
    message: Any = record.message
    if isinstance(message, pb.PredictionBatch) and message.stream and message.first_n > 0:
        rows = max(len(message.event_times_us), 1)
        source = Source(PREDICTIONS, message.stream, message.deployment, message.version, message.variant)
        return Dead(source, message.first_n, rows)
    text = {name: value.decode("utf-8", "replace") for name, value in record.headers.items()}
    stream, first, rows_text = text.get("ce_stream", ""), text.get("ce_firstn", ""), text.get("ce_rows", "")
    if text.get("ce_type") != "PredictionBatch" or not stream or not first.isdigit() or not rows_text.isdigit():
        return None
    source = Source(PREDICTIONS, stream, text.get("ce_subject", ""))
    return Dead(source, int(first), max(int(rows_text), 1)) if int(first) > 0 else None
