"""What states may a job be in, and how does it get from one to the next?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from perennial.errors import Aborted, FailedPrecondition

from services.trainer.domain.recipe import Data, Recipe


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    REGISTERING = "registering"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DECLINED = "declined"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.DECLINED, JobState.CANCELLED})
WORKED_ON = frozenset({JobState.LEASED, JobState.RUNNING, JobState.REGISTERING})


@dataclass(frozen=True, slots=True)
class Author:
    """Who submitted a job."""

    name: str
    kind: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One training job. ``token`` grows with every worker that takes it; ``registration`` is what it is about to register.

    ``attempts`` counts the workers that took it, ``deaths`` those that died over it.
    """

    id: str
    data: Data
    author: Author
    recipe: Recipe | None = None
    state: JobState = JobState.QUEUED
    model: str = ""
    decision_id: str = ""
    deployment: str = ""
    parent: str = ""
    first_alias: str = ""
    version: str = ""
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    progress: float = 0.0
    step: str = ""
    attempts: int = 0
    deaths: int = 0
    token: int = 0
    correlation_id: str = ""
    causation_id: str = ""
    event_time: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    data_digest: str = ""
    registration: Mapping[str, Any] | None = None
    changes: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    def held_with(self, token: int) -> Job:
        """The job, if ``token`` is of the worker that has it now; Aborted otherwise."""
        if self.token != token or self.state not in WORKED_ON:
            raise Aborted(f"job {self.id} is {self.state} and no longer this worker's")
        return self

    def taken(self, at: datetime, *, deaths: int) -> Job:
        """A worker has it. If the one before died over it, and ``deaths`` have by now, it fails instead."""
        died = self.deaths + (self.state in WORKED_ON)
        if died >= deaths and self.registration is None:
            reason = f"{died} workers died over it, the last one at: {self.step or 'taking it'}"
            return replace(self, deaths=died).failed(reason, at)
        return replace(self, state=JobState.LEASED, attempts=self.attempts + 1, deaths=died)

    def running(self, recipe: Recipe, parent: str, at: datetime) -> Job:
        """It trains by this recipe."""
        step = "training"
        return replace(
            self, state=JobState.RUNNING, recipe=recipe, model=recipe.model, parent=parent, step=step,
            started_at=self.started_at or at,
        )  # fmt: skip

    def registering(self, registration: Mapping[str, Any], metrics: Mapping[str, float], data_digest: str) -> Job:
        """Its package is stored and about to be registered."""
        return replace(
            self, state=JobState.REGISTERING, registration=registration, metrics=metrics, data_digest=data_digest,
            progress=0.95, step="registering",
        )  # fmt: skip

    def succeeded(self, version: str, at: datetime) -> Job:
        """Its version is registered."""
        return replace(self, state=JobState.SUCCEEDED, version=version, progress=1.0, step="", ended_at=at)

    def declined(self, reason: str, metrics: Mapping[str, float], data_digest: str, at: datetime) -> Job:
        """The new model would do harm."""
        return replace(
            self, state=JobState.DECLINED, reason=reason, metrics=metrics, data_digest=data_digest, step="", ended_at=at
        )

    def failed(self, reason: str, at: datetime) -> Job:
        """It cannot be done."""
        return replace(self, state=JobState.FAILED, reason=reason, step="", ended_at=at)

    def requeued(self, reason: str, *, died: bool = False) -> Job:
        """It will be tried again: something it needs is not there now, or its process died."""
        return replace(self, state=JobState.QUEUED, deaths=self.deaths + died, step=f"waits: {reason}"[:300])

    def cancelled(self, reason: str, at: datetime) -> Job:
        """Somebody ended it; FailedPrecondition when it has ended already."""
        if self.ended:
            raise FailedPrecondition(f"job {self.id} has ended: {self.state}")
        return replace(self, state=JobState.CANCELLED, reason=reason or "cancelled", step="", ended_at=at)
