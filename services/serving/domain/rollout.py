"""Where is a version on its way into a deployment?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from perennial.errors import FailedPrecondition


class RolloutState(StrEnum):
    """``pending → shadow → live → promoted | rolled_back | declined | aborted``."""

    PENDING = "pending"
    SHADOW = "shadow"
    LIVE = "live"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    DECLINED = "declined"
    ABORTED = "aborted"

    @property
    def at_work(self) -> bool:
        """Whether the challenger answers, copies or callers."""
        return self in (RolloutState.SHADOW, RolloutState.LIVE)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return not self.at_work and self is not RolloutState.PENDING


@dataclass(frozen=True, slots=True)
class Build:
    """One registered version as serving needs it; ``signature`` in its canonical JSON form."""

    version: str
    artifact_digest: str
    artifact_prefix: str
    signature: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rollout:
    """The way of one version; times are deployment time in microseconds, ``weight`` is in 0.1 %."""

    rollout_id: str
    deployment: str
    model: str
    champion: str
    build: Build
    """The challenger."""
    state: RolloutState
    started_us: int
    stepped_us: int
    attempt: int = 1
    weight: int = 0
    ended_us: int = 0
    reason: str = ""
    unjudged: bool = False
    correlation_id: str = ""
    causation_id: str = ""
    """The newest event of its chain."""
    decision_id: str = ""
    gain: float = 0.0
    approved: bool = True
    """False while the model waits for a person's approval."""

    @property
    def challenger(self) -> str:
        """The new version."""
        return self.build.version

    def shadowed(self, now_us: int, champion: str) -> Rollout:
        """In shadow from now on."""
        self._only(RolloutState.PENDING)
        return replace(
            self, state=RolloutState.SHADOW, champion=champion, started_us=now_us, stepped_us=now_us, reason="answers copies"
        )

    def live(self, weight: int, now_us: int, reason: str, *, gain: float | None = None, unjudged: bool = False) -> Rollout:
        """Answering this share of callers from now on."""
        self._only(RolloutState.SHADOW, RolloutState.LIVE)
        return replace(
            self, state=RolloutState.LIVE, weight=weight, stepped_us=now_us, reason=reason,
            gain=self.gain if gain is None else gain, unjudged=self.unjudged or unjudged,
        )  # fmt: skip

    def ended(self, state: RolloutState, now_us: int, reason: str, *, gain: float | None = None) -> Rollout:
        """Over, with its last reason."""
        if self.state.ended:
            raise FailedPrecondition(f"rollout {self.rollout_id} is {self.state} since before")
        weight = self.weight if state is RolloutState.PROMOTED else 0
        return replace(
            self, state=state, weight=weight, stepped_us=now_us, ended_us=now_us, reason=reason,
            gain=self.gain if gain is None else gain,
        )  # fmt: skip

    def _only(self, *states: RolloutState) -> None:
        if self.state not in states:
            raise FailedPrecondition(f"rollout {self.rollout_id} is {self.state}, not {' or '.join(states)}")
