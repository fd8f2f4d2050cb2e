"""The client as a whole: one object with a part a service, and the step of a replay that needs several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from perennial.client._async.calls import AsyncCalls
from perennial.client._async.deployments import AsyncDeployments
from perennial.client._async.features import AsyncFeatures
from perennial.client._async.models import AsyncModels
from perennial.client._async.monitoring import AsyncMonitoring
from perennial.client._async.training import AsyncTraining
from perennial.client.connection import Connection
from perennial.client.rows import Predictions, Rows, Time, Times
from perennial.v1.serving_pb2 import Deployment
from perennial.v1.trainer_pb2 import JOB_STATE_SUCCEEDED, Job


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a deployment stands at an event time, everything up to it done."""

    deployment: Deployment
    jobs: tuple[Job, ...]


class AsyncPerennial:
    """A platform, asynchronously.

    >>> async with AsyncPerennial() as platform:  # doctest: +SKIP
    ...     answers = await platform.predict("prices", [{"rooms": 3, "district": "north"}])
    ...     answers.values, answers.ids
    """

    def __init__(
        self, *, token: str | None = None, addresses: Mapping[str, str] | None = None, env_file: Path | str | None = None
    ) -> None:
        self.calls = AsyncCalls(Connection.find(token=token, addresses=addresses, env_file=env_file))
        self.models = AsyncModels(self.calls)
        self.features = AsyncFeatures(self.calls)
        self.training = AsyncTraining(self.calls)
        self.deployments = AsyncDeployments(self.calls)
        self.monitoring = AsyncMonitoring(self.calls)

    async def predict(
        self, deployment: str, rows: Rows, *, times: Times | None = None, entity_keys: Sequence[str] = (), request_id: str = ""
    ) -> Predictions:
        """Answers rows; see ``deployments.predict``."""
        return await self.deployments.predict(deployment, rows, times=times, entity_keys=entity_keys, request_id=request_id)

    async def settle(self, deployment: str, time: Time, *, on_job: Callable[[Job], None] | None = None) -> Settled:
        """Replays: returns when monitor, trainer and rollout have done everything that follows from events up to ``time``.

        The watermarks must have been advanced to ``time`` before. Retrainings that were asked for are waited for, so two
        replays of the same events take the same decisions.
        """
        settled = await self.monitoring.settle(deployment, time)
        jobs = [await self.training.wait(f"decision:{decision}", on_change=on_job) for decision in settled.open_decisions]
        versions = [job.version for job in jobs if job.state == JOB_STATE_SUCCEEDED]
        state = await self.deployments.settle(deployment, time, versions)
        await self.monitoring.settle(deployment, time, state_version=state.state_version, ended_decisions=settled.open_decisions)
        return Settled(state, tuple(jobs))

    async def close(self) -> None:
        """Closes every channel."""
        await self.calls.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()
