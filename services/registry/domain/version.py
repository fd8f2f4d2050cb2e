"""What is a model version, and where may it go?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from perennial.errors import FailedPrecondition, PermissionDenied
from perennial.package import FileEntry, Signature

from services.registry.domain.number import Number, Recipe


class Stage(StrEnum):
    """Where a version stands."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


MOVES: Mapping[Stage, frozenset[Stage]] = {
    Stage.DEVELOPMENT: frozenset({Stage.STAGING, Stage.ARCHIVED}),
    Stage.STAGING: frozenset({Stage.DEVELOPMENT, Stage.PRODUCTION, Stage.ARCHIVED}),
    Stage.PRODUCTION: frozenset({Stage.STAGING, Stage.ARCHIVED}),
    Stage.ARCHIVED: frozenset({Stage.DEVELOPMENT, Stage.STAGING}),
}
"""The moves a caller may ask for. Nothing is ever deleted: archived is as far as it goes."""


class Approval(StrEnum):
    """Whether somebody else agreed that a version may go to production."""

    NONE = "none"
    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something."""

    name: str
    kind: str
    roles: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    def same_as(self, other: "Actor") -> bool:
        """Whether both are one and the same, whatever roles it had when."""
        return (self.kind, self.name) == (other.kind, other.name)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from; empty texts are unknown."""

    job_id: str = ""
    training_set: str = ""
    parent: str = ""
    decision_id: str = ""
    deployment: str = ""
    code_version: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    event_time: datetime | None = None
    """When, in the time of the deployment."""


@dataclass(frozen=True)
class ModelVersion:
    """One immutable build of a model; only its stage, its approval and the aliases that name it ever change."""

    model: str
    number: Number
    recipe: Recipe
    files: tuple[FileEntry, ...]
    artifact_digest: str
    author: Actor
    created_at: datetime
    stage: Stage = Stage.DEVELOPMENT
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    lineage: Lineage = field(default_factory=Lineage)
    approved: bool | None = None
    """The last decision; None when nobody decided."""
    approval_required: bool = False
    """Whether its model asks for one."""
    was_in_production: bool = False
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.model} {self.number}"

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self.recipe.signature

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Its hyperparameters."""
        return self.recipe.parameters

    @property
    def approval(self) -> Approval:
        """Where its approval stands."""
        if self.approved is not None:
            return Approval.APPROVED if self.approved else Approval.REFUSED
        return Approval.PENDING if self.approval_required else Approval.NONE

    def check_production(self, by: Actor) -> None:
        """FailedPrecondition without the approval its model asks for; PermissionDenied to its own author.

        A version that was in production before needs nobody else: going back to it is a rollback.
        """
        if self.approval is Approval.REFUSED or (self.approval_required and self.approval is not Approval.APPROVED):
            raise FailedPrecondition(f"{self}: production needs an approval and it is {self.approval}")
        if by.same_as(self.author) and not self.was_in_production:
            raise PermissionDenied(f"{self}: production needs someone other than its author {self.author.name}")

    def check_move(self, to: Stage, by: Actor) -> None:
        """FailedPrecondition when the stages do not allow the move; for production see :meth:`check_production`."""
        if to not in MOVES[self.stage]:
            allowed = ", ".join(sorted(MOVES[self.stage]))
            raise FailedPrecondition(f"{self}: {self.stage} cannot become {to}; it can become {allowed}")
        if to is Stage.PRODUCTION:
            self.check_production(by)
