"""How do predictions and outcomes become the log? A Kafka group of its own writes immutable files, then commits.

Files are content-addressed and written first; one transaction then adds their manifest rows and advances the positions of
the reader ``log``, so a kill leaves at worst a file that nobody names. Cuts are reached when every stream's position is.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from perennial.clock import from_us
from perennial.errors import InvalidArgument, NotFound, PerennialError
from perennial.runtime import crash, telemetry
from perennial.runtime.bus import Bus
from perennial.runtime.objects import Objects
from perennial.runtime.postgres import Postgres
from perennial.topics import OUTCOMES as OUTCOMES_TOPIC
from perennial.topics import PREDICTIONS as PREDICTIONS_TOPIC

from services.monitor.agent.catalog import Catalog
from services.monitor.agent.collector import Record, dead_unit
from services.monitor.agent.decode import unit_from
from services.monitor.config import MonitorConfig
from services.monitor.domain import streams as domain
from services.monitor.domain.streams import Effects, Key, Stream, Taken
from services.monitor.domain.time import DAY_US, floored
from services.monitor.domain.units import Outcome, Predictions, Shadows, Unit
from services.monitor.log import parquet
from services.monitor.log.snapshots import Snapshots
from services.monitor.store import decisions, logged, streams
from services.monitor.store.logged import File

GROUP = "monitor-log"
POLL_MS = 5000
FETCH_WAIT_MS = 500
"""Nobody waits for the log but a cut, so an idle log asks the broker twice a second only."""
_LOG = telemetry.log(__name__)


@dataclass(slots=True)
class _Buffer:
    """Units read and not written yet, and the offsets after them."""

    units: list[tuple[int, Unit]]
    offsets: dict[Any, int]
    rows: int = 0
    since: float = 0.0


class Sink:
    """The writer of the prediction log."""

    def __init__(
        self, config: MonitorConfig, bus: Bus, postgres: Postgres, objects: Objects, catalog: Catalog, snapshots: Snapshots
    ) -> None:
        self._config, self._bus, self._postgres, self._objects = config, bus, postgres, objects
        self._catalog, self._snapshots = catalog, snapshots
        self._cut = asyncio.Event()
        self._buffer = _Buffer([], {})
        self.problem: str | None = "not connected yet"

    async def condition(self) -> str | None:
        """What is wrong now, for the readiness detail."""
        return self.problem

    def cut(self) -> None:
        """A cut waits to be reached."""
        self._cut.set()

    async def run(self) -> None:
        """Write until cancelled; every failure ends in a new consumer, which begins where the last transaction ended."""
        while True:
            consumer = self._bus.consumer([], group=GROUP, fetch_max_wait_ms=FETCH_WAIT_MS)
            consumer.subscribe(
                [self._config.prefixed(t.name) for t in (PREDICTIONS_TOPIC, OUTCOMES_TOPIC)], listener=_listener(self._forget)
            )
            self._forget()
            try:
                await asyncio.wait_for(consumer.start(), 20)
                self.problem = None
                await self._loop(consumer)
            except asyncio.CancelledError:
                await asyncio.shield(_closed(consumer))
                raise
            except Exception as error:  # noqa: BLE001 begun again
                self.problem = f"{type(error).__name__}: {error}"
                _LOG.warning("the log's consumer is rebuilt", exc_info=error)
            await asyncio.shield(_closed(consumer))
            await asyncio.sleep(1.0)

    def _forget(self) -> None:
        """Partitions moved: what is not written is read again by whoever has them."""
        self._buffer = _Buffer([], {})

    async def _loop(self, consumer: Any) -> None:
        loop = asyncio.get_running_loop()
        self._cut.set()  # cuts of an earlier life
        read: asyncio.Task[Any] | None = None
        try:
            while True:
                read = read or asyncio.create_task(consumer.getmany(timeout_ms=POLL_MS, max_records=1000))
                waited = asyncio.create_task(self._cut.wait())
                await asyncio.wait([read, waited], return_when=asyncio.FIRST_COMPLETED)
                waited.cancel()
                if read.done():
                    for partition, records in read.result().items():
                        await self._take(partition, records, loop.time())
                    read = None
                await self._write_if_due(consumer, loop.time())
        finally:
            if read is not None:
                read.cancel()

    async def _take(self, partition: Any, records: Any, now: float) -> None:
        for record in records:
            unit = await self._sure_unit(record)
            if unit is not None:
                self._buffer.units.append((record.partition, unit))
                self._buffer.rows += getattr(unit, "rows", 1) if isinstance(unit, Predictions) else 1
        self._buffer.offsets[partition] = records[-1].offset + 1
        self._buffer.since = self._buffer.since or now

    async def _sure_unit(self, record: Any) -> Unit | None:
        """What a record says, asked again while the deployment cannot be looked up."""
        delay = 0.1
        while True:
            try:
                return await self._unit(record)
            except PerennialError as error:
                self.problem = f"{type(error).__name__}: {error}"
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _unit(self, record: Any) -> Unit | None:
        """What a record says; what the agent puts into the dead letter only moves positions here."""
        topic = self._bus.bare(record.topic)
        mine = Record(topic, record.partition, record.offset, record.key or b"", record.value or b"", dict(record.headers),
                      record.timestamp / 1000, _nothing).decoded()  # fmt: skip
        message: Any = mine.message
        if message is not None:
            try:
                deployment = await self._catalog.get(message.deployment)
                now = datetime.fromtimestamp(mine.timestamp, UTC)
                producer = mine.headers.get("ce_producer", b"").decode("utf-8", "replace")
                return unit_from(message, mine.kind, deployment, now=now, producer=producer)
            except (InvalidArgument, NotFound, AttributeError):
                pass
        return dead_unit(mine)

    async def _write_if_due(self, consumer: Any, now: float) -> None:
        cuts = await decisions.open_cuts(self._postgres) if self._cut.is_set() else []
        self._cut.clear()
        old = self._buffer.units and now - self._buffer.since >= self._config.log_interval_s
        if cuts or old or self._buffer.rows >= self._config.log_rows:
            await self._write(consumer)
        if cuts and not await self._snapshots.write(cuts):
            asyncio.get_running_loop().call_later(0.02, self._cut.set)  # a stream is not read up to the cut yet

    async def _write(self, consumer: Any) -> None:
        """Write what was read, commit it, and tell Kafka."""
        buffer, self._buffer = self._buffer, _Buffer([], {})
        if buffer.units:
            await self._written(buffer.units)
        if buffer.offsets:
            await consumer.commit({tp: offset for tp, offset in buffer.offsets.items() if tp in consumer.assignment()})

    async def _written(self, units: list[tuple[int, Unit]]) -> None:
        sources = {domain.key_of(unit): unit.source for _, unit in units}
        while True:
            async with self._postgres.transaction() as tx:
                before = await streams.locked(tx, streams.LOG, sources)
            effects = domain.apply(before, units)
            shadows = [unit for _, unit in units if isinstance(unit, Shadows)]
            files = await asyncio.to_thread(_files, effects, shadows)
            for file, data in files:
                await self._objects.put(file.key, data)
            crash.point("monitor.log_files_written")
            if await self._committed(before, effects, [file for file, _ in files]):
                return

    async def _committed(self, before: dict[Key, Stream], effects: Effects, files: list[File]) -> bool:
        async with self._postgres.transaction() as tx:
            now = await streams.locked(tx, streams.LOG, {key: stream.source for key, stream in before.items()})
            if now != before:
                return False  # another worker wrote some of these rows meanwhile
            await logged.add(tx, files)
            await streams.save(tx, streams.LOG, before, effects.streams)
        return True


def _files(effects: Effects, shadows: list[Shadows]) -> list[tuple[File, bytes]]:
    """The files of what is new, one a deployment and day."""
    parts: defaultdict[tuple[str, int], list[tuple[Taken, Any]]] = defaultdict(list)
    for item in effects.taken:
        places = domain.chosen(item)
        days = item.batch.event_us[places] // DAY_US
        for day in np.unique(days).tolist():
            parts[item.batch.source.deployment, day * DAY_US].append((item, places[days == day]))
    found = []
    for (deployment, day), rows in sorted(parts.items(), key=lambda pair: pair[0]):
        times = [item.batch.event_us[places] for item, places in rows]
        span = (min(int(t.min()) for t in times), max(int(t.max()) for t in times))
        found.append(_file(deployment, day, "predictions", parquet.predictions_file(rows), sum(map(len, times)), span))
    truths: defaultdict[tuple[str, int], list[Outcome]] = defaultdict(list)
    for outcome in effects.outcomes:
        truths[outcome.deployment, floored(outcome.known_us, DAY_US)].append(outcome)
    for (deployment, day), outcomes in sorted(truths.items()):
        known = [o.known_us for o in outcomes]
        found.append(_file(deployment, day, "outcomes", parquet.outcomes_file(outcomes), len(known), (min(known), max(known))))
    answers: defaultdict[str, list[Shadows]] = defaultdict(list)
    for unit in shadows:
        answers[unit.source.deployment].append(unit)
    for deployment, answered in sorted(answers.items()):
        stamps = np.concatenate([unit.event_us for unit in answered])
        span = (int(stamps.min()), int(stamps.max()))
        found.append(_file(deployment, floored(span[0], DAY_US), "shadows", parquet.shadows_file(answered), len(stamps), span))
    return found


def _file(deployment: str, day_us: int, kind: str, data: bytes, rows: int, span: tuple[int, int]) -> tuple[File, bytes]:
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"log/{deployment}/{from_us(day_us):%Y-%m-%d}/{sha256}.parquet"
    return File(key, deployment, kind, sha256, rows, *span), data


async def _nothing() -> None:
    return


async def _closed(consumer: Any) -> None:
    try:
        await asyncio.wait_for(consumer.stop(), 5)
    except Exception as error:  # noqa: BLE001 it is thrown away
        _LOG.debug("closing a consumer failed", error=repr(error))


def _listener(forget: Callable[[], None]) -> Any:
    from aiokafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka ships no types
        async def on_partitions_revoked(self, _revoked: Any) -> None:
            forget()

        async def on_partitions_assigned(self, _assigned: Any) -> None:
            forget()

    return Listener()
