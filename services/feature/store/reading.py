"""Features of many entities over several views, each row as of its own time, from the online store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from perennial import metrics
from perennial.errors import FailedPrecondition, InvalidArgument, Unavailable
from perennial.frames import Table, Text
from perennial.runtime import telemetry

from services.feature.domain.evaluate import evaluate, incomplete, needed_by
from services.feature.domain.facts import Asked, checked_times, compact_keys
from services.feature.domain.packing import unpacked
from services.feature.domain.states import states_of
from services.feature.domain.views import Feature, Kind
from services.feature.store.catalog import Catalog, KnownView
from services.feature.store.history import History
from services.feature.store.online import Online

Column = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class _Selection:
    known: KnownView
    features: tuple[Feature, ...]
    names: tuple[str, ...]
    keys: tuple[str, ...]
    entity: NDArray[np.int64]


class Reader:
    """Reads the online store, and PostgreSQL for rows too old for it."""

    def __init__(self, history: History, catalog: Catalog, online: Online, *, most_rows: int) -> None:
        self._history, self._catalog, self._online, self._most = history, catalog, online, most_rows

    async def read(self, asked: Sequence[Asked], times_us: Sequence[int], now_us: int) -> Table:
        """A column a feature asked for. NotFound (view, feature), InvalidArgument (lengths, times, names)."""
        rows = self._rows(asked)
        times = _times_of(times_us, rows, now_us)
        selections = [await self._selected(one) for one in asked]
        names = [name for selection in selections for name in selection.names]
        if len(set(names)) < len(names):
            raise InvalidArgument("two columns of the answer have the same name; give names")
        wanted = [(selection.known, key) for selection in selections for key in selection.keys]
        try:
            values = await self._online.values(wanted)
        except Unavailable:
            values = []  # answered from PostgreSQL, slower
        columns: dict[str, Column] = {}
        start = 0
        for selection in selections:
            own, start = values[start : start + len(selection.keys)], start + len(selection.keys)
            columns.update(zip(selection.names, await self._columns(selection, own, times), strict=True))
        telemetry.metric(metrics.FEATURE_READS).labels("feature").inc(len(wanted))
        return assembled([(n, f) for s in selections for n, f in named(s.known, s.features, s.names)], columns, rows)

    def _rows(self, asked: Sequence[Asked]) -> int:
        lengths = {len(one.keys) for one in asked}
        if len(lengths) != 1:
            raise InvalidArgument(f"selections must have the same number of rows; they have {sorted(lengths) or 'none'}")
        if (rows := lengths.pop()) > self._most:
            raise InvalidArgument(f"{rows} rows in one read are more than {self._most}")
        return rows

    async def _selected(self, asked: Asked) -> _Selection:
        known = await self._catalog.get(asked.view)
        if not known.view.online:
            raise FailedPrecondition(f"view {asked.view!r} is not kept online")
        features = known.view.chosen(asked.features)
        return _Selection(known, features, names_of(features, asked.names), *compact_keys(asked.keys))

    async def _columns(self, selection: _Selection, values: Sequence[bytes], times: NDArray[np.int64]) -> list[Column]:
        view, layout = selection.known.view, selection.known.layout
        if not values and selection.keys:
            old = np.ones(len(times), dtype=bool)
            columns: list[Column] = [_nothing(view.kind_of(feature), len(times)) for feature in selection.features]
        else:
            states = unpacked(layout, values)
            columns = evaluate(view, selection.features, states, selection.entity, times)
            old = incomplete(states, selection.entity, times)
        rows = np.flatnonzero(old & (selection.entity >= 0))
        if len(rows):
            exact = await self._from_history(selection, selection.entity[rows], times[rows])
            for column, found in zip(columns, exact, strict=True):
                column[rows] = found
        return columns

    async def _from_history(self, selection: _Selection, entity: NDArray[np.int64], times: NDArray[np.int64]) -> list[Column]:
        known = selection.known
        used, places = np.unique(entity, return_inverse=True)
        keys = [selection.keys[place] for place in used.tolist()]
        reach = needed_by(known.layout)
        since = int(times.min()) - reach if reach else None
        found = await self._history.read(known, keys, since_us=since, until_us=int(times.max()))
        return evaluate(known.view, selection.features, states_of(known.layout, found.facts), places.astype(np.int64), times)


def names_of(features: Sequence[Feature], names: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns. InvalidArgument when there are some, but not one a feature."""
    if not names:
        return tuple(feature.name for feature in features)
    if len(names) != len(features):
        raise InvalidArgument(f"{len(features)} features need {len(features)} names or none, not {len(names)}")
    return tuple(names)


def named(known: KnownView, features: Sequence[Feature], names: Sequence[str]) -> list[tuple[str, Kind]]:
    """Each column's name and kind."""
    return [(name, known.view.kind_of(feature)) for name, feature in zip(names, features, strict=True)]


def assembled(wanted: Sequence[tuple[str, Kind]], columns: dict[str, Column], rows: int) -> Table:
    """The table of these columns, in their order."""
    numbers = tuple(name for name, kind in wanted if kind is Kind.NUMBER)
    matrix = np.empty((rows, len(numbers)))
    for place, name in enumerate(numbers):
        matrix[:, place] = columns[name]
    texts = {name: Text.of(columns[name].tolist()) for name, kind in wanted if kind is Kind.TEXT}
    return Table(rows, numbers, matrix, texts)


def _nothing(kind: Kind, rows: int) -> Column:
    return np.full(rows, None, dtype=object) if kind is Kind.TEXT else np.full(rows, np.nan)


def _times_of(times_us: Sequence[int], rows: int, now_us: int) -> NDArray[np.int64]:
    times = checked_times(times_us)
    if len(times) == rows and rows:
        return times
    if len(times) > 1:
        raise InvalidArgument(f"{rows} rows need one time each, one for all, or none; there are {len(times)}")
    return np.full(rows, times[0] if len(times) else now_us, dtype=np.int64)
