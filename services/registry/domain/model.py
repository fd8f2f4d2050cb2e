"""What holds for all versions of a model, and which facts does a command on it make?

Every function here answers with the facts that follow, in order, or raises; nothing is changed.

**The stage follows the alias** ``champion``. Whoever moves that alias, the version it names now enters production from
whatever stage it was in (its trial was the rollout) and the one it named before, when it stood in production, is archived;
each is a move of its own in the stage history, in the name of who moved the alias. The same rules hold as for a promotion
by hand: the approval the model asks for, and nobody's own work, except a version that was in production before.
The first champion of a model may be named by the one who registers it: nothing was at work before, so there is no one to
replace; not so when the model asks for approval. A promotion by hand moves no alias: what serves is the rollout's business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from perennial.errors import Aborted, FailedPrecondition, NotFound, PermissionDenied

from services.registry.domain.facts import AliasPointed, ApprovalGiven, Fact, Registered, StageMoved
from services.registry.domain.names import CHAMPION
from services.registry.domain.number import FIRST, Number, explicit_number, next_number, step_between
from services.registry.domain.version import Actor, ModelVersion, Stage

ANY = "*"


@dataclass(frozen=True)
class Model:
    """A name and what holds for all its versions."""

    name: str
    created_at: datetime
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    approval_required: bool = False
    latest: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Alias → version number."""
    aggregate_version: int = 0

    def registered(
        self, draft: ModelVersion, *, base: ModelVersion | None, taken: Iterable[Number], wanted: Number | None, first_alias: str
    ) -> tuple[Registered, *tuple[Fact, ...]]:
        """The new version under its number, then what its first alias brings when no version has that alias.

        ``base`` is what the rule compares with. FailedPrecondition when the rule forbids the ``wanted`` number.
        """
        number = _number_of(draft, base, taken, wanted)
        version = replace(draft, number=number, approval_required=self.approval_required)
        facts: list[Fact] = []
        if first_alias and first_alias not in self.aliases:
            if first_alias == CHAMPION:
                if self.approval_required:
                    raise FailedPrecondition(f"{self.name}: {CHAMPION} needs an approval, so it cannot be a first alias")
                facts.append(StageMoved(self.name, number, version.stage, Stage.PRODUCTION, version.author))
            facts.insert(0, AliasPointed(self.name, first_alias, None, number, version.author))
        return (Registered(version), *facts)

    def check_expected(self, alias: str, expected: str) -> None:
        """Aborted when ``alias`` does not name ``expected`` now; empty: it must not exist; ``*``: whatever it names."""
        now = self.aliases.get(alias, "")
        if expected not in (ANY, now):
            raise Aborted(f"{self.name}: alias {alias} names {now or 'nothing'}, not {expected or 'nothing'}")

    def alias_set(
        self, alias: str, *, target: ModelVersion | None, former: ModelVersion | None, by: Actor, request_id: str
    ) -> tuple[Fact, ...]:
        """``alias`` names ``target`` instead of ``former``; None removes it. Nothing happens when it is so already."""
        if target is None and former is None:
            raise NotFound(f"{self.name}: there is no alias {alias}")
        if target is not None and former is not None and target.number == former.number:
            return ()
        before, after = former.number if former else None, target.number if target else None
        facts: list[Fact] = [AliasPointed(self.name, alias, before, after, by, request_id)]
        if alias == CHAMPION:
            facts += _champion_stages(target, former, by)
        return tuple(facts)

    def approval_decided(self, version: ModelVersion, *, approved: bool, by: Actor, comment: str) -> tuple[Fact, ...]:
        """The decision; the last one counts. PermissionDenied to the version's author."""
        if by.same_as(version.author):
            raise PermissionDenied(f"{version}: somebody other than its author {version.author.name} decides")
        return (ApprovalGiven(self.name, version.number, approved, by, comment),)


def promoted(version: ModelVersion, to: Stage, *, by: Actor) -> tuple[Fact, ...]:
    """The move; FailedPrecondition when it is not allowed, PermissionDenied for own work to production."""
    version.check_move(to, by)
    return (StageMoved(version.model, version.number, version.stage, to, by),)


def _champion_stages(target: ModelVersion | None, former: ModelVersion | None, by: Actor) -> list[Fact]:
    facts: list[Fact] = []
    if target is not None and target.stage is not Stage.PRODUCTION:
        target.check_production(by)
        facts.append(StageMoved(target.model, target.number, target.stage, Stage.PRODUCTION, by))
    if former is not None and former.stage is Stage.PRODUCTION:
        facts.append(StageMoved(former.model, former.number, Stage.PRODUCTION, Stage.ARCHIVED, by))
    return facts


def _number_of(draft: ModelVersion, base: ModelVersion | None, taken: Iterable[Number], wanted: Number | None) -> Number:
    if base is None:
        return wanted or FIRST
    step = step_between(base.recipe, draft.recipe, retrained=bool(draft.lineage.parent))
    if wanted is not None:
        return explicit_number(wanted, base.number, step)
    return next_number(base.number, step, taken)
