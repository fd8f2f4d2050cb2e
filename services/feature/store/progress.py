"""How far has each producer come?"""

from collections.abc import Sequence

from perennial.runtime.postgres import Postgres

_ADVANCE = """
insert into progress (stream, view_id, time_us) select $1, r, $3 from unnest($2::int[]) r
on conflict (stream, view_id) do update set time_us = greatest(progress.time_us, excluded.time_us)
"""
_EVERY_VIEW = 0


class Progress:
    """Times before which nothing will follow, by stream and view; they never go back."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def advance(self, stream: str, views: Sequence[int], time_us: int) -> None:
        """Nothing that becomes known before this time will follow; no views means all that the stream writes."""
        await self._postgres.execute(_ADVANCE, stream, sorted(set(views)) or [_EVERY_VIEW], time_us)
