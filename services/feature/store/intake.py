"""From rows as they were sent to a write: checked against their views, all or none, or the good ones alone."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from perennial.clock import Clock, to_us
from perennial.errors import Aborted, InvalidArgument

from services.feature.domain.facts import Bad, Sent, facts_of, refused
from services.feature.store.catalog import Catalog
from services.feature.store.writing import Part, Stored, Writer

_ATTEMPTS = 5


class Intake:
    """Checks rows and writes them; begins again when a view changed in between."""

    def __init__(self, catalog: Catalog, writer: Writer, clock: Clock, *, most_rows: int) -> None:
        self._catalog, self._writer, self._clock, self._most = catalog, writer, clock, most_rows

    async def write(self, sent: Sequence[Sent], stream: str, first: int) -> Stored:
        """Store all rows. NotFound (view), InvalidArgument (columns, times, constraints) naming view, row and column."""
        rows = sum(part.table.rows for part in sent)
        if rows > self._most:
            raise InvalidArgument(f"{rows} rows in one call are more than {self._most}; send them in parts")
        if stream and not 1 <= first < 2**62:
            raise InvalidArgument(f"first_n is {first}; positions in a stream count from 1")
        for attempt in range(_ATTEMPTS):
            parts = []
            for one in sent:
                part, bad = await self._checked(one)
                if bad:
                    raise refused(part.known.view, bad)
                parts.append(part)
            try:
                return await self._writer.write(parts, stream, first)
            except Aborted:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def write_good(self, sent: Sent, stream: str, first: int) -> tuple[Stored, InvalidArgument | None]:
        """Store the rows that are good; what is wrong with the others."""
        for attempt in range(_ATTEMPTS):
            part, bad = await self._checked(sent)
            runs = _good_runs(len(part.facts), bad)
            try:
                done = [
                    await self._writer.write(
                        [Part(part.known, part.facts.take(np.arange(*run)).compacted())], stream, first + run[0]
                    )
                    for run in runs
                ]
            except Aborted:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            stored = Stored(sum(one.new for one in done), sum(one.repeated for one in done))
            return stored, refused(part.known.view, bad) if bad else None
        raise AssertionError("unreachable")

    async def _checked(self, sent: Sent) -> tuple[Part, list[Bad]]:
        known = await self._catalog.get(sent.view)
        facts, bad = facts_of(known.view, sent.table, sent.event_us, sent.known_us, to_us(self._clock.now()))
        return Part(known, facts), bad


def _good_runs(rows: int, bad: Sequence[Bad]) -> list[tuple[int, int]]:
    """The runs of rows between bad ones."""
    edges = [-1, *(one.row for one in bad), rows]
    return [(start + 1, stop) for start, stop in pairwise(edges) if stop > start + 1]
