# Generated from ../_async by tools/unasync.py; do not edit.
"""The client as a whole: one object with a part a service, and the step of a replay that needs several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from perennial.client._sync.calls import Calls
from perennial.client._sync.deployments import Deployments
from perennial.client._sync.features import Features
from perennial.client._sync.models import Models
from perennial.client._sync.monitoring import Monitoring
from perennial.client._sync.training import Training
from perennial.client.connection import Connection
from perennial.client.rows import Predictions, Rows, Time, Times
from perennial.v1.serving_pb2 import Deployment
from perennial.v1.trainer_pb2 import JOB_STATE_SUCCEEDED, Job


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a deployment stands at an event time, everything up to it done."""

    deployment: Deployment
    jobs: tuple[Job, ...]


class Perennial:
    """A platform.

    >>> with Perennial() as platform:  # doctest: +SKIP
    ...     answers = platform.predict("prices", [{"rooms": 3, "district": "north"}])
    ...     answers.values, answers.ids
    """

    def __init__(
        self, *, token: str | None = None, addresses: Mapping[str, str] | None = None, env_file: Path | str | None = None
    ) -> None:
        self.calls = Calls(Connection.find(token=token, addresses=addresses, env_file=env_file))
        self.models = Models(self.calls)
        self.features = Features(self.calls)
        self.training = Training(self.calls)
        self.deployments = Deployments(self.calls)
        self.monitoring = Monitoring(self.calls)

    def predict(
        self, deployment: str, rows: Rows, *, times: Times | None = None, entity_keys: Sequence[str] = (), request_id: str = ""
    ) -> Predictions:
        """Answers rows; see ``deployments.predict``."""
        return self.deployments.predict(deployment, rows, times=times, entity_keys=entity_keys, request_id=request_id)

    def settle(self, deployment: str, time: Time, *, on_job: Callable[[Job], None] | None = None) -> Settled:
        """Replays: returns when monitor, trainer and rollout have done everything that follows from events up to ``time``.

        The watermarks must have been advanced to ``time`` before. Retrainings that were asked for are waited for, so two
        replays of the same events take the same decisions.
        """
        settled = self.monitoring.settle(deployment, time)
        jobs = [self.training.wait(f"decision:{decision}", on_change=on_job) for decision in settled.open_decisions]
        versions = [job.version for job in jobs if job.state == JOB_STATE_SUCCEEDED]
        state = self.deployments.settle(deployment, time, versions)
        self.monitoring.settle(deployment, time, state_version=state.state_version, ended_decisions=settled.open_decisions)
        return Settled(state, tuple(jobs))

    def close(self) -> None:
        """Closes every channel."""
        self.calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
