"""A whole platform as real processes, and a driver that replays a stream through it whatever dies."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from perennial.client import AsyncOutcomes, AsyncPerennial, Table
from perennial.errors import Aborted, Cancelled, DeadlineExceeded, Unavailable
from perennial.testing.platform import Platform
from perennial.testing.plugin import StartService
from perennial.v1.serving_pb2 import (
    ROLLOUT_STATE_LIVE,
    ROLLOUT_STATE_PENDING,
    ROLLOUT_STATE_SHADOW,
    TIME_MODE_EVENT,
    Deployment,
    DeploymentSpec,
    MonitoringPolicy,
    RolloutPolicy,
)
from perennial.v1.trainer_pb2 import JOB_STATE_SUCCEEDED, Job

from tests.loop.stream import HOUR, START, Hour, hours

T = TypeVar("T")
NAME = "generated"
SERVICES = ("registry", "feature", "trainer", "serving", "monitor")
_OPEN = (ROLLOUT_STATE_PENDING, ROLLOUT_STATE_SHADOW, ROLLOUT_STATE_LIVE)
_PASSING = (Unavailable, DeadlineExceeded, Cancelled, Aborted)
_PATIENCE_S = 90.0


async def persistent(call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer, asked again while something is down; every call here may be repeated."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while True:
        try:
            return await call()
        except _PASSING:
            if loop.time() > deadline:
                raise
            await asyncio.sleep(0.2)


@dataclass
class Driver:
    """Replays hours through a platform and keeps what it was told."""

    client: AsyncPerennial
    changed_on: int
    acknowledged: int = 0
    errors: dict[int, list[float]] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    deployment: Deployment = field(default_factory=Deployment)
    _outcomes: AsyncOutcomes | None = None

    async def prepare(self, train_days: int) -> None:
        """Train on the first days and deploy."""
        past = list(hours(0, train_days, changed_on=self.changed_on))
        rows = Table.concat([Table.of({**hour.rows, "truth": hour.truths}) for hour in past])
        times = np.concatenate([hour.times_us for hour in past])
        keys = [key for hour in past for key in hour.keys]
        table = await self.client.features.training_set(rows, times, [], labels=("truth",), entity_keys=keys)
        job = await self.client.training.submit(
            NAME, training_set=table.digest, target="truth", algorithm="lightgbm", first_alias="champion",
            hyperparameters={"rounds": 60},
        )  # fmt: skip
        done = await self.client.training.wait(job.job_id, deadline_s=120)
        assert done.state == JOB_STATE_SUCCEEDED, done.reason
        spec = DeploymentSpec(
            name=NAME, model=NAME, time=TIME_MODE_EVENT, training_set=table.digest, rollout=RolloutPolicy(auto=True),
            monitoring=MonitoringPolicy(outcomes=True, retrain=True, training_window=Duration(seconds=10 * 86_400)),
        )  # fmt: skip
        self.deployment = await self.client.deployments.create(spec)
        self._outcomes = self.client.monitoring.outcomes(NAME)

    async def replay(
        self, first_day: int, until_day: int, *, before: Callable[[Hour], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Every hour of these days; ``before`` may break something while an hour is under way."""
        for hour in hours(first_day, until_day, changed_on=self.changed_on):
            async with asyncio.TaskGroup() as work:
                if before is not None:
                    work.create_task(before(hour))
                await self._hour(hour)

    async def _hour(self, hour: Hour) -> None:
        request_id = uuid.uuid4().hex
        answers = await persistent(
            lambda: self.client.predict(NAME, hour.rows, times=hour.times_us, entity_keys=hour.keys, request_id=request_id)
        )
        self.acknowledged += len(answers)
        day = (hour.start - START).days
        self.errors.setdefault(day, []).append(float(np.abs(answers.values - hour.truths).mean()))
        end = hour.start + HOUR
        settling = end.hour == 0 or self.deployment.rollout.state in _OPEN
        outcomes = self._outcomes
        assert outcomes is not None
        known_at = hour.times_us + 60_000_000
        truths = hour.truths.tolist()
        await persistent(lambda: outcomes.record(answers.ids, truths, known_at=known_at, watermark=end, flush=settling))
        await persistent(lambda: self.client.deployments.advance(NAME, end, flush=settling))
        if settling:
            await self.settle(end)

    async def settle(self, time: datetime) -> None:
        """Waits for the platform; keeps the jobs it told of."""
        settled = await persistent(lambda: self.client.settle(NAME, time))
        self.deployment = settled.deployment
        self.jobs.extend(settled.jobs)

    def mae(self, day: int) -> float:
        """Mean absolute error of a day, by the driver's own count."""
        return float(np.mean(self.errors[day]))


@pytest.fixture(scope="module")
async def client(platform: Platform, service_process: StartService) -> AsyncIterator[AsyncPerennial]:
    """A client of a platform of this module, all services running."""
    for name in SERVICES:
        await service_process(name)
    addresses = {name: platform.address(name) for name in SERVICES}
    async with AsyncPerennial(token=platform.admin_token, addresses=addresses) as found:
        yield found


def totals(lines: Any) -> dict[str, int]:
    """The ledger's sums, shadow answers left out."""
    names = ("counted", "late", "dead_lettered", "dropped", "missing")
    return {name: sum(getattr(line, name) for line in lines if line.variant != "shadow") for name in names}
