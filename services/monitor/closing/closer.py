"""When is something complete? One pass over a deployment moves its watermarks and closes what they have passed.

The whole pass is one transaction that locks the deployment's row: so there is no leader, a watermark that is stored says
that everything up to it is done, and a kill in the middle leaves nothing half closed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from perennial import metrics
from perennial.clock import Clock, to_us
from perennial.runtime import crash, telemetry
from perennial.runtime.postgres import Postgres, Transaction

from services.monitor.agent.catalog import Catalog
from services.monitor.agent.references import References
from services.monitor.closing import blocks, comparing, quality, windows
from services.monitor.closing.moment import Moment
from services.monitor.config import MonitorConfig
from services.monitor.domain.deployments import Deployment
from services.monitor.domain.time import least_watermark
from services.monitor.store import deployments, streams
from services.monitor.store.deployments import Watch

_LOG = telemetry.log(__name__)


class Closer:
    """Closes what is complete, for the deployments it is told of and, once a tick, for those that follow the clock."""

    def __init__(
        self, config: MonitorConfig, postgres: Postgres, catalog: Catalog, references: References, clock: Clock,
        *, on_cut: Callable[[], None],
    ) -> None:  # fmt: skip
        self._config, self._postgres, self._catalog = config, postgres, catalog
        self._references, self._clock, self._on_cut = references, clock, on_cut
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        self.moved = asyncio.Condition()
        """Notified after every pass."""
        self.lag: Callable[[], set[tuple[str, int]]] = set
        """The partitions of this worker that are read to their ends."""
        self.problem: str | None = None

    async def condition(self) -> str | None:
        """What is wrong now, for the readiness detail."""
        return self.problem

    async def notify(self, _deployment: str) -> None:
        """Tell those who wait that something was done."""
        async with self.moved:
            self.moved.notify_all()

    def wake(self, names: Iterable[str]) -> None:
        """Look at these deployments."""
        self._due.update(names)
        self._wake.set()

    async def run(self) -> None:
        """Close until cancelled; a pass that failed is tried again at the next tick."""
        for watch in await deployments.every(self._postgres):
            self._due.add(watch.deployment.name)
        next_tick = 0.0
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._config.tick_s)
            self._wake.clear()
            if loop.time() >= next_tick:
                await self._tick()
                next_tick = loop.time() + self._config.tick_s
            due, self._due = self._due, set()
            for name in sorted(due):
                await self._guarded(name)

    async def _tick(self) -> None:
        """Streams whose lease ran out leave; deployments that follow the clock are due."""
        partitions: dict[str, list[int]] = {}
        for topic, partition in self.lag():
            partitions.setdefault("outcomes" if topic.endswith("outcomes") else "predictions", []).append(partition)
        for kind, found in partitions.items():
            self._due.update(await streams.expire(self._postgres, kind, found, self._config.stream_lease_s))
        for watch in await deployments.every(self._postgres):
            if not watch.deployment.event_time and not watch.deployment.retired:
                self._due.add(watch.deployment.name)

    async def _guarded(self, name: str) -> None:
        try:
            await self.close(name)
            self.problem = None
        except Exception as error:  # noqa: BLE001 tried again at the next tick
            self.problem = f"{name}: {type(error).__name__}: {error}"
            _LOG.warning("closing is tried again", deployment=name, exc_info=error)
            self._due.add(name)

    async def close(self, name: str) -> None:
        """One pass over a deployment."""
        deployment = await self._catalog.get(name)
        await self._references.load([(name, version) for version in (deployment.champion,) if version], {name: deployment})
        async with self._postgres.transaction() as tx:
            watch = await deployments.lock(tx, name)
            if watch is None:
                return
            moment = await self._moment(tx, watch)
            if moment is not None:
                await quality.check(moment)
                await windows.close(moment)
                await comparing.compare(moment)
                await blocks.close(moment)
                await moment.save()
        crash.point("monitor.after_closing")
        if moment is not None:
            if moment.cuts:
                self._on_cut()
            for kind, us in (("prediction", moment.prediction_us), ("outcome", moment.outcome_us)):
                if us is not None:
                    telemetry.metric(metrics.WATERMARK).labels(name, kind).set(us / 1e6)
        await self.notify(name)

    async def _moment(self, tx: Transaction, watch: Watch) -> Moment | None:
        """Where the deployment's time is now; None when there is nothing to do."""
        deployment = watch.deployment
        found = await streams.watermarks(tx, deployment.name)
        now_us = to_us(self._clock.now())
        predictions = self._prediction_watermark(deployment, watch, found.get("predictions"), now_us)
        outcomes = self._outcome_watermark(deployment, watch, found.get("outcomes"), predictions, now_us)
        moved = predictions != watch.prediction_us or outcomes != watch.outcome_us
        if not moved and not comparing.behind(watch):
            return None
        return Moment(tx, watch, self._references, self._config, predictions, outcomes, moved=moved)

    @staticmethod
    def _prediction_watermark(deployment: Deployment, watch: Watch, found: list[int | None] | None, now_us: int) -> int | None:
        if deployment.foreign and not deployment.event_time:
            return max(now_us - deployment.policy.lateness_us, watch.prediction_us or 0)
        return least_watermark(found or [], watch.prediction_us)

    @staticmethod
    def _outcome_watermark(
        deployment: Deployment, watch: Watch, found: list[int | None] | None, predictions: int | None, now_us: int
    ) -> int | None:
        """The least that outcome streams told; where none ever did the receipt clock, or in event time the predictions'."""
        if found is not None:
            return least_watermark(found, watch.outcome_us)
        if deployment.event_time:
            return predictions if watch.outcome_us is None or predictions is None else max(predictions, watch.outcome_us)
        return max(now_us - deployment.policy.lateness_us, watch.outcome_us or 0)
