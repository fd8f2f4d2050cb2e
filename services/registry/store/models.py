"""Models and versions in PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.clock import Clock
from perennial.errors import InvalidArgument, NotFound
from perennial.runtime.postgres import Postgres
from perennial.runtime.queries import Queries

from services.registry.domain.facts import AliasPointed, StageMoved
from services.registry.domain.model import Model
from services.registry.domain.page import Page
from services.registry.domain.version import ModelVersion, Stage
from services.registry.store import rows
from services.registry.store.record import EventOf, Record, located

_CREATED = "insert into models (name, created_at) values ($1, $2) on conflict (name) do update set name = excluded.name"
"""Makes the model, or locks the one there is."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which versions are searched for; empty means all."""

    stage: Stage | None = None
    algorithm: str = ""
    text: str = ""
    tags: tuple[tuple[str, str | None], ...] = ()
    """Pairs; a None value asks only that there is such a tag."""

    @classmethod
    def of(cls, stage: Stage | None, algorithm: str, text: str, tags: Sequence[str]) -> "Filters":
        """Filters with tags written ``key=value`` or ``key``; InvalidArgument when one has no key."""
        pairs = []
        for tag in tags:
            name, given, value = tag.partition("=")
            if not name:
                raise InvalidArgument(f"tags: {tag!r} has no key; use key=value or key")
            pairs.append((name, value if given else None))
        return cls(stage, algorithm, text, tuple(pairs))


@dataclass(frozen=True, slots=True)
class Held:
    """What an alias named, since when and until when (None: it still does)."""

    version: ModelVersion
    since: datetime
    until: datetime | None


class Models:
    """Reads, and :meth:`locked` for changes."""

    def __init__(self, postgres: Postgres, *, clock: Clock, event_of: EventOf) -> None:
        self._postgres = postgres
        self._clock = clock
        self._event_of = event_of

    @asynccontextmanager
    async def locked(self, name: str, *, create: bool = False) -> AsyncIterator[Record]:
        """The model, locked until the end of the transaction; NotFound unless ``create`` makes it."""
        async with self._postgres.transaction() as transaction:
            # First the lock, then the question: one statement with "for update" would wait for the row and then still see
            # the aliases as they were before it waited (PostgreSQL, READ COMMITTED: only the locked row is read again).
            if create:
                await transaction.execute(_CREATED, name, self._clock.now())
            else:
                await transaction.execute("select 1 from models where name = $1 for update", name)
            row = await transaction.fetchrow(f"{rows.MODEL} where m.name = $1", name)
            if row is None:
                raise NotFound(f"there is no model {name}")
            record = Record(transaction, rows.model_from(row), at=self._clock.now(), event_of=self._event_of)
            yield record
            await record.finish()

    async def get(self, name: str) -> Model:
        """One model; NotFound."""
        row = await self._queries.fetchrow(f"{rows.MODEL} where m.name = $1", name)
        if row is None:
            raise NotFound(f"there is no model {name}")
        return rows.model_from(row)

    async def page(self, page: Page) -> tuple[list[Model], str]:
        """Models by name."""
        found = await self._queries.fetch(
            f"{rows.MODEL} where m.name > $1 order by m.name limit $2", page.after or "", page.size + 1
        )
        return page.cut([rows.model_from(row) for row in found], lambda model: model.name)

    async def version(self, name: str, reference: str) -> ModelVersion:
        """One version by number or ``@alias``; NotFound."""
        return rows.version_from(await located(self._queries, name, reference))

    async def versions_of(self, name: str, page: Page) -> tuple[list[ModelVersion], str]:
        """Versions of a model, newest first; NotFound."""
        await self.get(name)
        return await self._versions(page, ["v.model = $1"], [name])

    async def search(self, filters: Filters, page: Page) -> tuple[list[ModelVersion], str]:
        """Versions of all models, newest first."""
        wheres: list[str] = []
        values: list[Any] = []

        def where(condition: str, value: Any) -> None:
            values.append(value)
            wheres.append(condition.format(f"${len(values)}"))

        if filters.stage is not None:
            where("v.stage = {}", str(filters.stage))
        if filters.algorithm:
            where("v.algorithm = {}", filters.algorithm)
        if filters.text:
            where(_text_condition(filters, page), filters.text.lower())
        exact = {name: value for name, value in filters.tags if value is not None}
        if exact:
            where("v.tags @> {}", exact)
        if names := [name for name, value in filters.tags if value is None]:
            where("v.tags ?& {}::text[]", names)
        if contradiction := [name for name, value in filters.tags if value is not None and exact[name] != value]:
            raise InvalidArgument(f"tags: {contradiction[0]} cannot have two values")
        return await self._versions(page, wheres, values)

    async def _versions(self, page: Page, wheres: list[str], values: list[Any]) -> tuple[list[ModelVersion], str]:
        if page.after is not None:
            values = [*values, page.after]
            wheres = [*wheres, f"v.id < ${len(values)}"]
        condition = f"where {' and '.join(wheres)}" if wheres else ""
        query = f"{rows.VERSION} {condition} order by v.id desc limit {page.size + 1:d}"
        shown, token = page.cut(await self._queries.fetch(query, *values), lambda row: int(row["id"]))
        return [rows.version_from(row) for row in shown], token

    async def at(self, name: str, alias: str, time: datetime | None) -> Held:
        """What ``alias`` named at ``time`` (now when None); NotFound when it named nothing."""
        moves = await self._queries.fetch(
            """
            select to_version, at from alias_history where model = $1 and alias = $2 and n >= coalesce((
                select max(n) from alias_history where model = $1 and alias = $2 and ($3::timestamptz is null or at <= $3)
            ), 9223372036854775807) order by n limit 2
            """,
            name, alias, time,
        )  # fmt: skip
        if not moves or not moves[0]["to_version"]:
            await self.get(name)
            raise NotFound(f"{name}: alias {alias} named nothing {'at ' + time.isoformat() if time else 'yet, or was removed'}")
        version = await self.version(name, moves[0]["to_version"])
        return Held(version, moves[0]["at"], moves[1]["at"] if len(moves) > 1 else None)

    async def alias_history(self, name: str, alias: str, page: Page) -> tuple[list[tuple[AliasPointed, datetime]], str]:
        """Moves of a model's aliases (of all when ``alias`` is empty), newest first; NotFound."""
        await self.get(name)
        found = await self._queries.fetch(
            """
            select * from alias_history where model = $1 and ($2 = '' or alias = $2) and ($3::bigint is null or n < $3)
            order by n desc limit $4
            """,
            name, alias, page.after, page.size + 1,
        )  # fmt: skip
        shown, token = page.cut(found, lambda row: int(row["n"]))
        return [(rows.alias_move_from(row), row["at"]) for row in shown], token

    async def stage_history(self, name: str, reference: str, page: Page) -> tuple[list[tuple[StageMoved, datetime]], str]:
        """Moves of a version's stage, newest first; NotFound."""
        row = await located(self._queries, name, reference)
        version = rows.version_from(row)
        found = await self._queries.fetch(
            "select * from stage_history where version_id = $1 and ($2::bigint is null or n < $2) order by n desc limit $3",
            row["id"], page.after, page.size + 1,
        )  # fmt: skip
        shown, token = page.cut(found, lambda move: int(move["n"]))
        return [(rows.stage_move_from(move, version), move["at"]) for move in shown], token

    async def registered_before(self, caller: str, request_id: str) -> tuple[ModelVersion, bytes] | None:
        """The version this caller registered with this request id, and the digest of the header it sent; None when it did not."""
        row = await self._queries.fetchrow(
            f"{rows.VERSION} where v.request_caller = $1 and v.request_id = $2", caller, request_id
        )
        return (rows.version_from(row), bytes(row["request_digest"])) if row is not None else None

    @property
    def _queries(self) -> Queries:
        return self._postgres


def _text_condition(filters: Filters, page: Page) -> str:
    """The narrow rows lead when text is all that is asked (a page of ids is enough), else the other conditions do."""
    if filters.stage is not None or filters.algorithm or filters.tags:
        return "exists (select from version_words w where w.version_id = v.id and strpos(w.words, {}) > 0)"
    before = "" if page.after is None else f"and version_id < {int(page.after)}"
    found = f"select version_id from version_words where strpos(words, {{}}) > 0 {before} order by version_id desc"  # noqa: S608 a number
    return f"v.id = any(array({found} limit {page.size + 1:d}))"
