"""Which views are there? Kept in PostgreSQL, and in memory with the catalog's version to notice changes by others."""

import asyncio
from dataclasses import dataclass

from perennial.errors import NotFound
from perennial.runtime.postgres import Postgres, Transaction
from perennial.v1 import feature_pb2 as pb

from services.feature import wire
from services.feature.domain.facts import Facts
from services.feature.domain.layout import Layout
from services.feature.domain.packing import packed
from services.feature.domain.states import states_of
from services.feature.domain.views import FeatureView, StoredView, check_change

_ALL = """
select (select version from catalog) as catalog, v.*, (extract(epoch from w.created_at) * 1000000)::bigint as created_us
from views v join view_versions w on w.view_id = v.id and w.version = v.version order by v.name
"""


@dataclass(frozen=True, slots=True)
class KnownView:
    """A view with what is derived from it once."""

    stored: StoredView
    layout: Layout
    empty: bytes
    """The packed state of an entity without facts."""

    @property
    def id(self) -> int:
        """Its number in the store."""
        return self.stored.id

    @property
    def view(self) -> FeatureView:
        """Its definition."""
        return self.stored.view


class Catalog:
    """The views, by name. A view that is not known is looked for once more before NotFound."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._views: dict[str, KnownView] = {}
        self.version = -1

    async def get(self, name: str) -> KnownView:
        """The view of this name. NotFound."""
        if name not in self._views:
            await self.load()
        return self.known(name)

    def known(self, name: str) -> KnownView:
        """As ``get``, without another look."""
        try:
            return self._views[name]
        except KeyError:
            raise NotFound(f"no feature view {name!r}") from None

    def by_id(self, view_id: int) -> KnownView | None:
        """The view of this number, if it is known."""
        return next((known for known in self._views.values() if known.id == view_id), None)

    def after(self, name: str, count: int, entity: str) -> list[KnownView]:
        """The next views by name, of an entity if one is given."""
        names = sorted(found for found in self._views if found > name)
        views = (self._views[found] for found in names)
        return [known for known in views if not entity or known.view.entity == entity][:count]

    async def load(self) -> None:
        """Read all views."""
        rows = await self._postgres.fetch(_ALL)
        self._views = {row["name"]: _known(row) for row in rows}
        self.version = rows[0]["catalog"] if rows else await self._postgres.fetchval("select version from catalog")

    async def follow(self) -> None:
        """Notice within a second what other processes declare; runs until cancelled."""
        while True:
            if await self._postgres.fetchval("select version from catalog") != self.version:
                await self.load()
            await asyncio.sleep(1.0)

    async def register(self, view: FeatureView) -> StoredView:
        """``view`` as it stands afterwards. FailedPrecondition when rows that exist cannot follow the change."""
        async with self._postgres.transaction() as transaction:
            # One registration at a time; writers under way end first, later ones notice the version and begin again.
            await transaction.execute("lock table entities in exclusive mode")
            await transaction.execute("update catalog set version = version + 1")
            row = await transaction.fetchrow(
                "select *, (extract(epoch from created_at) * 1000000)::bigint as created_us from views where name = $1", view.name
            )
            if row is None:
                await _insert(transaction, view)
            elif _view(row) != view:
                await _change(transaction, row["id"], row["version"], _view(row), view)
        await self.load()
        return self.known(view.name).stored


async def _insert(transaction: Transaction, view: FeatureView) -> None:
    definition = wire.definition_to(view).SerializeToString(deterministic=True)
    insert = "insert into views (name, version, definition) values ($1, 1, $2) returning id"
    view_id = await transaction.fetchval(insert, view.name, definition)
    await transaction.execute("insert into view_versions (view_id, version, definition) values ($1, 1, $2)", view_id, definition)
    await transaction.execute(f"create table facts_{int(view_id)} partition of facts for values in ({int(view_id)})")
    await transaction.audit("feature_view.registered", view.name, version=1)


async def _change(transaction: Transaction, view_id: int, version: int, old: FeatureView, new: FeatureView) -> None:
    if await transaction.fetchval("select exists (select from entities where view_id = $1)", view_id):
        check_change(old, new)
    definition = wire.definition_to(new).SerializeToString(deterministic=True)
    await transaction.execute(
        "insert into view_versions (view_id, version, definition) values ($1, $2, $3)", view_id, version + 1, definition
    )
    await transaction.execute("update views set version = $2, definition = $3 where id = $1", view_id, version + 1, definition)
    await transaction.audit("feature_view.registered", new.name, version=version + 1)


def _view(row: object) -> FeatureView:
    return wire.view_from(pb.FeatureView.FromString(row["definition"]))  # type: ignore[index]


def _known(row: object) -> KnownView:
    view = _view(row)
    stored = StoredView(row["id"], row["version"], view, row["created_us"])  # type: ignore[index]
    layout = Layout.of(view)
    empty = packed(states_of(layout, Facts.none(("",), view)), [0])[0]
    return KnownView(stored, layout, empty)
