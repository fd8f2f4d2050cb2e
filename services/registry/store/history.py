"""The event history in PostgreSQL: every control event once, for as long as the platform lives."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perennial.errors import NotFound
from perennial.runtime.postgres import Postgres

from services.registry.domain.page import Page

_SELECT = "select n, id, type, source, subject, at, correlation_id, causation_id, topic, data, recorded_at from events "

_CHAIN = _SELECT + "where correlation_id = coalesce((select correlation_id from events where id = $1), $1) order by n"  # noqa: S608


@dataclass(frozen=True)
class KeptEvent:
    """An event as it is kept; ``recorded_at`` is None before it is."""

    id: str
    type: str
    source: str
    subject: str
    at: datetime
    correlation_id: str
    causation_id: str
    topic: str
    data: Mapping[str, Any]
    recorded_at: datetime | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything short that comes from outside."""
        return (self.id, self.type, self.source, self.subject, self.correlation_id, self.causation_id)


class History:
    """Events, unique by id."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def keep(self, event: KeptEvent) -> None:
        """Store the event; nothing happens when it is there."""
        await self._postgres.execute(
            "insert into events (id, type, source, subject, at, correlation_id, causation_id, topic, data)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (id) do nothing",
            event.id, event.type, event.source, event.subject, event.at, event.correlation_id, event.causation_id,
            event.topic, dict(event.data),
        )  # fmt: skip

    async def chain(self, any_id: str) -> list[KeptEvent]:
        """Every event of the chain that ``any_id`` names (its correlation id, or the id of any event in it); NotFound."""
        found = await self._postgres.fetch(
            _CHAIN,
            any_id,
        )
        if not found:
            raise NotFound(f"no event {any_id} and no chain of that id is known")
        return [_event(row) for row in found]

    async def page(self, kind: str, subject: str, page: Page) -> tuple[list[KeptEvent], str]:
        """Events, newest first; only of this type and with this subject, unless empty."""
        found = await self._postgres.fetch(
            _SELECT
            + "where ($1 = '' or type = $1) and ($2 = '' or subject = $2) and ($3::bigint is null or n < $3)"
            " order by n desc limit $4",
            kind, subject, page.after, page.size + 1,
        )  # fmt: skip
        shown, token = page.cut(found, lambda row: int(row["n"]))
        return [_event(row) for row in shown], token


def _event(row: Any) -> KeptEvent:
    return KeptEvent(**{name: value for name, value in row.items() if name != "n"})
