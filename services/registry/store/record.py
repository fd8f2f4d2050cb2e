"""One model under lock: read, decide outside, write its facts with their events and audit lines."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from perennial.errors import AlreadyExists, InvalidArgument, NotFound
from perennial.runtime.events import Event
from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries

from services.registry.domain.facts import AliasPointed, ApprovalGiven, Chain, Fact, Registered, StageMoved
from services.registry.domain.model import Model
from services.registry.domain.number import Number
from services.registry.domain.version import ModelVersion
from services.registry.store import rows

EventOf = Callable[[Fact, int, Chain], Event]
_OF_NUMBER = "v.model = $1 and v.major = $2 and v.minor = $3 and v.patch = $4"
_OF_ALIAS = "v.id = (select version_id from aliases where model = $1 and alias = $2)"


async def located(queries: Queries, name: str, reference: str) -> Any:
    """The row of a version by number or ``@alias``; NotFound, and InvalidArgument when it is neither."""
    if reference.startswith("@"):
        row = await queries.fetchrow(f"{rows.VERSION} where {_OF_ALIAS}", name, reference[1:])
    else:
        number = Number.parsed(reference)
        row = await queries.fetchrow(f"{rows.VERSION} where {_OF_NUMBER}", name, number.major, number.minor, number.patch)
    if row is None:
        raise NotFound(f"model {name} has no version {reference}")
    return row


class Record:
    """A locked model inside a transaction."""

    def __init__(self, transaction: Transaction, model: Model, *, at: datetime, event_of: EventOf) -> None:
        self.transaction = transaction
        self.model = model
        self.at = at
        """The time of every fact that is applied."""
        self.chain = Chain()
        """Where the facts that are applied stand in a causal chain."""
        self._event_of = event_of
        self._kept = model

    async def version(self, reference: str) -> ModelVersion:
        """A version by number or ``@alias``; NotFound."""
        return rows.version_from(await located(self.transaction, self.model.name, reference))

    async def named_by(self, alias: str) -> ModelVersion | None:
        """The version ``alias`` names, or None."""
        return await self.version(self.model.aliases[alias]) if alias in self.model.aliases else None

    async def base_of(self, parent: str) -> tuple[ModelVersion | None, tuple[Number, ...]]:
        """What a new version is compared with (its parent, else the newest; None for the first) and the numbers beside it.

        InvalidArgument when the parent does not exist. The numbers are the greatest of the model, of the major and of the
        minor: those that decide which one is next.
        """
        reference = parent or self.model.latest
        if not reference:
            return None, ()
        number = Number.parsed(reference)
        row = await self.transaction.fetchrow(rows.BASE, self.model.name, number.major, number.minor, number.patch)
        if row is None:
            raise InvalidArgument(f"lineage.parent: model {self.model.name} has no version {reference}")
        return rows.version_from(row), rows.numbers_beside(row)

    async def set(self, *, description: str, tags: Mapping[str, str], approval_required: bool) -> None:
        """Change what holds for all versions."""
        self.model = replace(self.model, description=description, tags=dict(tags), approval_required=approval_required)
        await self.transaction.execute(
            "update models set description = $2, tags = $3, approval_required = $4 where name = $1",
            self.model.name, description, dict(tags), approval_required,
        )  # fmt: skip
        self._count()
        await self.transaction.audit("model.upsert", self.model.name, approval_required=approval_required, tags=dict(tags))

    async def add(self, fact: Registered, *, caller: str, request_id: str, digest: bytes) -> None:
        """The new version with its event. AlreadyExists when its number or its request id is taken."""
        self.model = replace(self.model, latest=str(fact.version.number))
        self._count()
        request = (caller, request_id, digest) if request_id else (None, None, None)
        counters = (self.model.latest, self.model.aggregate_version)
        made = await self.transaction.fetchval(rows.NEW_VERSION, *rows.version_values(fact.version), *request, *counters)
        if made is None:
            raise AlreadyExists(f"{fact.version}: the number or the request id {request_id!r} is taken")
        self._kept = self.model
        await self._tell(fact)

    async def apply(self, *facts: Fact) -> None:
        """Write what each fact changes, with its event and its line of the audit; new versions go by :meth:`add`."""
        for fact in facts:
            self._count()
            if isinstance(fact, AliasPointed):
                await self._alias(fact)
            elif isinstance(fact, StageMoved):
                await self._stage(fact)
            elif isinstance(fact, ApprovalGiven):
                await self._approval(fact)
            await self._tell(fact)

    async def finish(self) -> None:
        """Write the model's counters; called at the end of the transaction."""
        if self.model != self._kept:
            await self.transaction.execute(
                "update models set aggregate_version = $2, latest = $3 where name = $1",
                self.model.name, self.model.aggregate_version, self.model.latest,
            )  # fmt: skip

    def _count(self) -> None:
        self.model = replace(self.model, aggregate_version=self.model.aggregate_version + 1)

    async def _alias(self, fact: AliasPointed) -> None:
        aliases = {name: number for name, number in self.model.aliases.items() if name != fact.alias}
        if fact.after is None:
            await self.transaction.execute("delete from aliases where model = $1 and alias = $2", fact.model, fact.alias)
        else:
            aliases[fact.alias] = str(fact.after)
            await self.transaction.execute(
                """
                insert into aliases (model, alias, version_id)
                select $1, $2, id from versions where model = $1 and major = $3 and minor = $4 and patch = $5
                on conflict (model, alias) do update set version_id = excluded.version_id
                """,
                fact.model, fact.alias, fact.after.major, fact.after.minor, fact.after.patch,
            )  # fmt: skip
        self.model = replace(self.model, aliases=aliases)
        await self.transaction.execute(
            "insert into alias_history (model, alias, from_version, to_version, actor, at, request_id)"
            " values ($1, $2, $3, $4, $5, $6, $7)",
            fact.model, fact.alias, str(fact.before or ""), str(fact.after or ""), asdict(fact.actor), self.at, fact.request_id,
        )  # fmt: skip

    async def _stage(self, fact: StageMoved) -> None:
        await self.transaction.execute(
            """
            with moved as (
                update versions set stage = $6, was_in_production = was_in_production or $6 = 'production'
                where model = $1 and major = $2 and minor = $3 and patch = $4 returning id
            )
            insert into stage_history (version_id, from_stage, to_stage, actor, at) select id, $5, $6, $7, $8 from moved
            """,
            fact.model, fact.number.major, fact.number.minor, fact.number.patch, str(fact.before), str(fact.after),
            asdict(fact.actor), self.at,
        )  # fmt: skip

    async def _approval(self, fact: ApprovalGiven) -> None:
        await self.transaction.execute(
            """
            with decided as (
                update versions set approved = $5 where model = $1 and major = $2 and minor = $3 and patch = $4 returning id
            )
            insert into approvals (version_id, approved, actor, comment, at) select id, $5, $6, $7, $8 from decided
            """,
            fact.model, fact.number.major, fact.number.minor, fact.number.patch, fact.approved, asdict(fact.actor),
            fact.comment, self.at,
        )  # fmt: skip

    async def _tell(self, fact: Fact) -> None:
        await self.transaction.publish(self._event_of(fact, self.model.aggregate_version, self.chain))
        if isinstance(fact, Registered):
            version = fact.version
            digest = version.artifact_digest
            await self.transaction.audit("version.register", str(version), artifact=digest, parent=version.lineage.parent)
        elif isinstance(fact, AliasPointed):
            moved = {"before": str(fact.before or ""), "after": str(fact.after or ""), "request_id": fact.request_id}
            await self.transaction.audit("alias.set", f"{fact.model}@{fact.alias}", **moved)
        elif isinstance(fact, StageMoved):
            await self.transaction.audit("stage.move", f"{fact.model} {fact.number}", before=fact.before, after=fact.after)
        else:
            await self.transaction.audit("approval", f"{fact.model} {fact.number}", approved=fact.approved, comment=fact.comment)


