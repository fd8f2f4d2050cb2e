"""What can happen to a model? Each fact is one row of history, one event and one line of the audit."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.registry.domain.number import Number
from services.registry.domain.version import Actor, Lineage, ModelVersion, Stage


@dataclass(frozen=True, slots=True)
class Chain:
    """Where facts stand in a causal chain; empty texts when they begin one."""

    correlation_id: str = ""
    causation_id: str = ""
    event_time: datetime | None = None
    """When they happened in the time of the deployment; None means now."""

    @classmethod
    def of(cls, lineage: Lineage) -> "Chain":
        """Where a version's registration stands."""
        return cls(lineage.correlation_id, lineage.causation_id, lineage.event_time)


@dataclass(frozen=True)
class Registered:
    """A new version exists."""

    version: ModelVersion


@dataclass(frozen=True, slots=True)
class StageMoved:
    """A version went from one stage to another."""

    model: str
    number: Number
    before: Stage
    after: Stage
    actor: Actor


@dataclass(frozen=True, slots=True)
class AliasPointed:
    """An alias names another version: ``before`` is None when it is new, ``after`` when it was removed."""

    model: str
    alias: str
    before: Number | None
    after: Number | None
    actor: Actor
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    """Somebody decided whether a version may go to production."""

    model: str
    number: Number
    approved: bool
    actor: Actor
    comment: str = ""


Fact = Registered | StageMoved | AliasPointed | ApprovalGiven


def after(version: ModelVersion, *facts: Fact) -> ModelVersion:
    """The version once these facts about its model hold."""
    for fact in facts:
        if isinstance(fact, AliasPointed):
            aliases = {*version.aliases} - {fact.alias} | ({fact.alias} if fact.after == version.number else set())
            version = replace(version, aliases=tuple(sorted(aliases)))
        elif isinstance(fact, StageMoved) and fact.number == version.number:
            production = version.was_in_production or fact.after is Stage.PRODUCTION
            version = replace(version, stage=fact.after, was_in_production=production)
        elif isinstance(fact, ApprovalGiven) and fact.number == version.number:
            version = replace(version, approved=fact.approved)
    return version
