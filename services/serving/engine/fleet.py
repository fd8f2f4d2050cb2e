"""Which deployments does this process answer for, and how does it keep up with their changes?

PostgreSQL says what there is; every change is looked for once a second, and what this process changes itself is taken over
at once. Without PostgreSQL the lines stay as they are, and a start takes them from the snapshot on the own disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from perennial import metrics
from perennial.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, PerennialError
from perennial.runtime import telemetry
from perennial.runtime.tokens import KnownKey
from perennial.spool import Spool
from perennial.v1.events_pb2 import StreamProgress

from services.serving.domain.deployment import CHALLENGER, CHAMPION, Deployment
from services.serving.domain.spec import TimeMode
from services.serving.engine.cache import ModelCache
from services.serving.engine.counters import Counters
from services.serving.engine.line import Line, Loaded, stream_info
from services.serving.engine.predict import DataPlane
from services.serving.engine.snapshot import Snapshot
from services.serving.store import Store

REFRESH_S = 1.0
_SNAPSHOT_S = 30.0
_LOG = telemetry.log(__name__)


class Fleet:
    """Keeps the data plane's lines as the deployments are."""

    def __init__(self, plane: DataPlane, store: Store, cache: ModelCache, spool: Spool, snapshot: Snapshot) -> None:
        self._plane = plane
        self._store = store
        self._cache = cache
        self._spool = spool
        self._snapshot = snapshot
        self._counters = Counters()
        self._lock = asyncio.Lock()
        self._ghosts: dict[str, int] = {}
        self._written = 0.0
        self._read_at = time.time()
        self.hurry: Callable[[], None] = lambda: None
        """Makes the sender send what is written."""
        self.keys: Callable[[], list[KnownKey]] = list
        self.on_broken: Callable[[Line, str], None] = lambda _line, _reason: None
        """A challenger that cannot be loaded here."""

    @property
    def counters(self) -> Counters:
        """What was answered here."""
        return self._counters

    def deployments(self) -> list[Deployment]:
        """What is answered for here."""
        return [line.deployment for line in self._plane.lines.values()]

    def close(self) -> None:
        """Show no figures any more."""
        self._counters.close()

    async def serve(self, deployment: Deployment) -> None:
        """Answer for the deployment as it is now; returns when the next call will be answered so."""
        line = self._plane.lines.get(deployment.name)
        if line is not None and replace(line.deployment, watermark_us=deployment.watermark_us) == deployment:
            return
        async with self._lock:
            await self._serve(deployment)
        await self.write_snapshot()

    async def _serve(self, deployment: Deployment) -> None:
        name = deployment.name
        if deployment.watermark_us is not None:
            self._plane.watermarks[name] = max(self._plane.watermarks.get(name, deployment.watermark_us), deployment.watermark_us)
        before = self._plane.lines.get(name)
        if before is not None and before.deployment.state_version > deployment.state_version:
            return
        if deployment.retired:
            if before is not None:
                before.deployment = deployment
                self._end_streams(name, keep=set())
            return
        champion = await self._loaded(deployment, deployment.champion.version, CHAMPION)
        line = Line.of(deployment, champion, await self._challenger(deployment, champion))
        if before is not None and before.rollout_id == line.rollout_id:
            line.cut, line.keyless, line.guardrail = before.cut, before.keyless, before.guardrail
        self._plane.lines[name] = line
        self._end_streams(name, keep={(loaded.info.version, variant) for variant, loaded in line.roles.items()})
        if not deployment.spec.foreign:
            self._spool.announce(line.champion.stream(self._spool))
        self._show(line)

    async def _loaded(self, deployment: Deployment, version: str, variant: str) -> Loaded:
        rollout = deployment.rollout
        build = rollout.build if rollout is not None and variant == CHALLENGER else deployment.champion
        predictor = await self._cache.load(build)
        info = stream_info(deployment, predictor, version, variant)
        before = self._plane.lines.get(deployment.name)
        same = before.roles.get(variant) if before else None
        if same is not None and same.info == info and same.predictor is predictor:
            return same
        return Loaded(predictor, info, self._counters.of(deployment.name, version, variant))

    async def _challenger(self, deployment: Deployment, champion: Loaded) -> Loaded | None:
        """The challenger, loaded; None when there is none or it cannot be used, which is reported."""
        rollout = deployment.rollout
        if rollout is None:
            return None
        try:
            loaded = await self._loaded(deployment, rollout.challenger, CHALLENGER)
        except (DataLoss, InvalidArgument, NotFound) as error:
            reason = f"it cannot be loaded: {error}"
        else:
            if loaded.info.signature_digest == champion.info.signature_digest:
                return loaded
            reason = "its signature is another than the champion's"
        line = Line.of(deployment, champion, None)
        line.rollout_id = rollout.rollout_id
        self.on_broken(line, reason)
        return None

    def _end_streams(self, name: str, keep: set[tuple[str, str]]) -> None:
        for (deployment, version, variant), stream in list(self._spool.streams.items()):
            if deployment == name and (version, variant) not in keep:
                self._spool.finish(stream)

    def advance(self, name: str, watermark_us: int, *, flush: bool) -> None:
        """Write a watermark behind every row answered before, on all streams of a deployment."""
        line = self._plane.lines.get(name)
        if line is None or line.deployment.retired:
            return
        self._plane.watermarks[name] = max(self._plane.watermarks.get(name, watermark_us), watermark_us)
        self._end_streams(name, keep={(loaded.info.version, variant) for variant, loaded in line.roles.items()})
        streams = [loaded.stream(self._spool) for loaded in line.roles.values()]
        for stream in streams if not line.shadow else streams[:1]:
            info = stream.info
            progress = StreamProgress(
                stream=stream.id, next_n=stream.next_n, watermark_us=watermark_us, flush=flush, deployment=name,
                version=info.version, variant=info.variant,
            )  # fmt: skip
            written = self._spool.message(stream, "StreamProgress", progress.SerializeToString())
            if flush:
                written.add_done_callback(lambda _: self.hurry())

    def time_of(self, name: str) -> TimeMode | None:
        """Whose clock a deployment follows; None when it is not served here."""
        line = self._plane.lines.get(name)
        return line.deployment.spec.time if line else None

    def arrival_watermark(self, name: str) -> int | None:
        """Receipt clock minus the allowed lateness; None in event time."""
        line = self._plane.lines.get(name)
        if line is None or line.event_time:
            return None
        return int(time.time() * 1e6) - line.deployment.spec.allowed_lateness_us

    async def follow(self) -> None:
        """Look for changes for ever."""
        while True:
            try:
                await self.refresh()
            except PerennialError as error:
                telemetry.metric(metrics.SNAPSHOT_AGE).set(time.time() - self._read_at)
                _LOG.debug("changes of deployments cannot be read", error=str(error))
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Take over what changed."""
        versions = await self._store.versions()
        self._read_at = time.time()
        telemetry.metric(metrics.SNAPSHOT_AGE).set(0.0)
        changed = False
        for name, (version, watermark_us) in versions.items():
            line = self._plane.lines.get(name)
            if line is None or line.deployment.state_version != version:
                changed = await self._take_over(name, line, version) or changed
            if watermark_us is not None and watermark_us > self._plane.watermarks.get(name, watermark_us - 1):
                self.advance(name, watermark_us, flush=True)
        if changed or time.time() - self._written > _SNAPSHOT_S:
            await self.write_snapshot()

    async def _take_over(self, name: str, line: Line | None, version: int) -> bool:
        if line is not None and line.deployment.state_version > version:
            # Taken over before its commit. It will come, or it failed and what is stored holds.
            self._ghosts[name] = self._ghosts.get(name, 0) + 1
            if self._ghosts[name] < 5:
                return False
            del self._plane.lines[name]
        self._ghosts.pop(name, None)
        try:
            deployment = await self._store.get(name)
            async with self._lock:
                await self._serve(deployment)
        except PerennialError as error:
            _LOG.warning("a deployment cannot be taken over", deployment=name, error=str(error))
            return False
        return True

    async def restore(self, *, most_age_s: float) -> list[KnownKey]:
        """Begin with what the snapshot says; the API keys that were known."""
        try:
            deployments, keys, age = await asyncio.to_thread(self._snapshot.read, most_age_s=most_age_s)
        except NotFound:
            return []
        except (DataLoss, FailedPrecondition) as error:
            _LOG.warning("the snapshot is not used", error=str(error))
            return []
        self._read_at = time.time() - age
        for deployment in deployments:
            try:
                await self._serve(deployment)
            except PerennialError as error:
                _LOG.warning("a deployment of the snapshot cannot be served", deployment=deployment.name, error=str(error))
        return keys

    async def write_snapshot(self) -> None:
        """Keep what is known now on the own disk."""
        self._written = time.time()
        try:
            await asyncio.to_thread(self._snapshot.write, self.deployments(), self.keys())
        except OSError as error:
            _LOG.warning("the snapshot cannot be written", error=str(error))

    async def problem(self) -> str | None:
        """A readiness detail: how old the routing is when PostgreSQL does not answer."""
        age = time.time() - self._read_at
        return f"deployments were last read {age:.0f} s ago" if age > 10 * REFRESH_S else None

    def _show(self, line: Line) -> None:
        for variant in line.deployment.variants:
            share = telemetry.metric(metrics.TRAFFIC_SHARE)
            share.labels(line.deployment.name, variant.version, variant.name).set(variant.weight / 1000)
        rollout = line.deployment.rollout
        if rollout is not None:
            telemetry.metric(metrics.ROLLOUT_STEP).labels(rollout.deployment, rollout.challenger).set(rollout.weight / 10)
        telemetry.metric(metrics.MODELS_LOADED).set(len(self._cache))
