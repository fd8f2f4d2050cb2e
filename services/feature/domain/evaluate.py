"""What is a feature of an entity worth, as of a row's time?

The one function for online reads and for training sets. A window of length w covers the buckets in
[floor_minute(t) - w, floor_minute(t)), its far edge rounded down to a minute (w up to 2 h) or to an hour; LAST is the
last fact strictly before t. Of both only what was known by t counts. Sums are correctly rounded, so no order or
grouping of the facts can be seen in a value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.feature.domain.exact import PrefixSums, rounded
from services.feature.domain.layout import ADDED, LEAST, Layout, Term, age_us, terms_of
from services.feature.domain.states import BUCKET_BITS, BUCKET_MIDDLE, Cells, LastFacts, States, cell_keys
from services.feature.domain.views import HOUR_US, MINUTE_US, MINUTES_UP_TO_US, Aggregation, Feature, FeatureView

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_Number = TypeVar("_Number", np.int64, np.float64)


def evaluate(
    view: FeatureView, features: Sequence[Feature], states: States, entity: Ints, times: Ints
) -> list[NDArray[np.generic]]:
    """A column a feature (floats, or objects for texts): its value for each row's entity (-1: none) at the row's time.

    Without a value: NaN or None; but the count of no facts is 0.
    """
    known = entity >= 0
    rows = (
        Rows(np.where(known, entity, 0), times, known) if len(states) else Rows(entity, times, np.zeros(len(entity), dtype=bool))
    )
    reader = _Reader(view, states, rows)
    columns: list[NDArray[np.generic]] = []
    for feature in features:
        column = reader.column(feature)
        if feature.aggregation is Aggregation.COUNT:
            column = np.where(known, column, np.nan)
        columns.append(column)
    return columns


@dataclass(frozen=True, slots=True)
class Rows:
    """What is asked: an entity and a time a row; ``known`` is False where there is no entity."""

    entity: Ints
    times: Ints
    known: NDArray[np.bool_]


class _Reader:
    """Evaluates features over the same rows, finding each window's cells and the last facts once."""

    def __init__(self, view: FeatureView, states: States, rows: Rows) -> None:
        self._view, self._states, self._rows = view, states, rows
        self._windows: dict[int, _Window] = {}
        self._minutes, self._hours = _Indexed(states, states.minutes, MINUTE_US), _Indexed(states, states.hours, HOUR_US)
        self._last: dict[int, tuple[Ints, NDArray[np.bool_] | None]] = {}

    def column(self, feature: Feature) -> NDArray[np.generic]:
        if feature.aggregation is Aggregation.LAST:
            return self._last_column(feature)
        if not self._rows.known.any():
            return np.full(len(self._rows.times), 0.0 if feature.aggregation is Aggregation.COUNT else np.nan)
        window = self._windows.get(feature.window_us)
        if window is None:
            window = self._windows[feature.window_us] = _Window(self._minutes, self._hours, self._rows, feature.window_us)
        return _formula(feature.aggregation, [window.figure(term) for term in terms_of(feature)])

    def _last_column(self, feature: Feature) -> NDArray[np.generic]:
        facts, layout = self._states.facts, self._states.layout
        place, found = self._last_of(age_us(self._view, feature))
        if feature.column in layout.last_texts:
            return _chosen(facts.texts[layout.last_texts.index(feature.column)], place, found, None)
        return _chosen(facts.numbers[:, layout.last_numbers.index(feature.column)], place, found, np.nan)

    def _last_of(self, age: int) -> tuple[Ints, NDArray[np.bool_] | None]:
        """Each row's last fact that is not older than ``age`` (0: any), and which rows have one (None: all)."""
        if age not in self._last:
            facts = self._states.facts
            place = last_visible(facts, len(self._states), self._rows)
            found = place >= 0
            if age and len(facts):
                found &= facts.event[np.maximum(place, 0)] >= self._rows.times - age
            self._last[age] = place, None if found.all() else found
        return self._last[age]


def _chosen(values: NDArray[np.generic], place: Ints, found: NDArray[np.bool_] | None, nothing: object) -> NDArray[np.generic]:
    if found is None:
        return values[place]
    column: NDArray[np.generic] = np.full(len(place), nothing, dtype=values.dtype)
    column[found] = values[place[found]]
    return column


def _formula(how: Aggregation, figures: list[Floats]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if how is Aggregation.COUNT:
            return figures[0]
        if how is Aggregation.SUM:
            return np.where(figures[1] > 0, figures[0], np.nan)
        value = figures[0] / figures[1] if how in (Aggregation.MEAN, Aggregation.RATIO) else figures[0]
    return np.where(np.isfinite(value), value, np.nan)


class _Indexed:
    """Cells with what finding and adding them needs, made once for all windows."""

    def __init__(self, states: States, cells: Cells, width_us: int) -> None:
        self.cells, self.layout = cells, states.layout
        self._width_us = width_us

    @cached_property
    def keys(self) -> Ints:
        return cell_keys(self.cells)

    @cached_property
    def sums(self) -> PrefixSums:
        return PrefixSums(self.cells.figures[:, self.layout.added])

    @cached_property
    def late(self) -> bool:
        """Whether a cell became visible only after its bucket was over."""
        return bool((self.cells.visible > (self.cells.bucket + 1) * self._width_us).any())

    def range(self, rows: Rows, least: Ints, stop: Ints) -> tuple[Ints, Ints]:
        """Each row's cells of its entity with least <= bucket < stop, as places; empty where there is no entity."""
        base = (rows.entity << BUCKET_BITS) + BUCKET_MIDDLE
        low = np.searchsorted(self.keys, base + np.maximum(least, -BUCKET_MIDDLE))
        high = np.searchsorted(self.keys, base + stop)
        return low, np.where(rows.known, high, low)


class _Window:
    """The cells of one trailing window, for every row: a range of minute cells and, for long windows, one of hour cells."""

    def __init__(self, minutes: _Indexed, hours: _Indexed, rows: Rows, window_us: int) -> None:
        self._layout, self._times = minutes.layout, rows.times
        near = rows.times // MINUTE_US
        far_us = near * MINUTE_US - window_us
        if window_us <= MINUTES_UP_TO_US:
            self._ranges = [(minutes, *minutes.range(rows, far_us // MINUTE_US, near))]
        else:
            hour = near // 60
            self._ranges = [
                (hours, *hours.range(rows, far_us // HOUR_US, hour)),
                (minutes, *minutes.range(rows, hour * 60, near)),
            ]
        self._hidden = self._hidden_rows()

    @cached_property
    def _added(self) -> Floats:
        """The sums of all terms that add up, rows x terms."""
        terms = [part for cells, start, stop in self._ranges for part in cells.sums.terms(start, stop)]
        return rounded(terms, (len(self._times), len(self._layout.added)))

    def figure(self, term: Term) -> Floats:
        """The term's figure of each row's window."""
        place = self._layout.place[term]
        figure = self._added[:, self._layout.added.index(place)] if term.merge == ADDED else self._extreme(term, place)
        if len(self._hidden):
            figure = figure.copy()
            for row in self._hidden.tolist():
                figure[row] = self._visible_figure(term, place, row)
        return figure

    def _extreme(self, term: Term, place: int) -> Floats:
        better = np.minimum if term.merge == LEAST else np.maximum
        found = [
            _over_ranges(better, cells.cells.figures[:, place], start, stop, term.nothing) for cells, start, stop in self._ranges
        ]
        figure: Floats = found[0] if len(found) == 1 else better(*found)
        return figure

    def _hidden_rows(self) -> Ints:
        """Rows whose window holds a cell that was not visible by the row's time."""
        hidden = np.zeros(len(self._times), dtype=bool)
        for cells, start, stop in self._ranges:
            if cells.late:
                hidden |= _over_ranges(np.maximum, cells.cells.visible, start, stop, -(2**62)) > self._times
        return np.flatnonzero(hidden)

    def _visible_figure(self, term: Term, place: int, row: int) -> float:
        parts = []
        for cells, start, stop in self._ranges:
            seen = cells.cells.visible[start[row] : stop[row]] <= self._times[row]
            parts += cells.cells.figures[start[row] : stop[row], place][seen].tolist()
        if term.merge != ADDED:
            return (min if term.merge == LEAST else max)(parts, default=term.nothing)
        return math.fsum(parts)


def _over_ranges(better: np.ufunc, values: NDArray[_Number], start: Ints, stop: Ints, nothing: float) -> NDArray[_Number]:
    """``better`` over values[start:stop] of each row; ``nothing`` for an empty range."""
    found = np.full(len(start), nothing, dtype=values.dtype)
    some = np.flatnonzero(stop > start)
    if len(some):
        edges = np.empty(2 * len(some), dtype=np.int64)
        edges[::2], edges[1::2] = start[some], stop[some]
        if edges.max() == len(values):
            values = np.append(values, np.asarray(nothing, dtype=values.dtype))
        found[some] = better.reduceat(values, edges)[::2]
    return found


def last_visible(facts: LastFacts, entities: int, rows: Rows) -> Ints:
    """The place of each row's last fact (by event time, known_at, sequence) before its time and known by it; -1: none."""
    if not len(facts):
        return np.full(len(rows.times), -1, dtype=np.int64)
    starts = np.searchsorted(facts.entity, np.arange(entities + 1))
    first = starts[rows.entity]
    place = _first_not_before(facts, starts, rows) - 1
    seeking = rows.known & (place >= first)
    place = np.where(seeking, place, -1)
    if not (facts.known > facts.event).any():
        return place
    pending = np.flatnonzero(seeking)
    while len(pending):
        pending = pending[facts.known[place[pending]] > rows.times[pending]]
        place[pending] -= 1
        out = place[pending] < first[pending]
        place[pending[out]] = -1
        pending = pending[~out]
    return place


def _first_not_before(facts: LastFacts, starts: Ints, rows: Rows) -> Ints:
    """The first place of the row's entity whose event time is at or after the row's time."""
    least, greatest = int(facts.event.min()), int(facts.event.max())
    span = greatest - least + 2
    if span * len(starts) < 2**62:
        keys = facts.entity * span + (facts.event - least)
        return np.searchsorted(keys, rows.entity * span + np.clip(rows.times - least, 0, span - 1))
    low, high = starts[rows.entity], starts[rows.entity + 1]
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        open_ = low < high
        before = np.zeros(len(low), dtype=bool)
        before[open_] = facts.event[middle[open_]] < rows.times[open_]
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low


def incomplete(states: States, entity: Ints, times: Ints) -> NDArray[np.bool_]:
    """Rows so old that something they need may have been dropped from the states."""
    if not len(states):
        return np.zeros(len(entity), dtype=bool)
    return (entity >= 0) & (times < states.complete_from[np.maximum(entity, 0)])


def needed_by(layout: Layout) -> int:
    """How far before a row's time its windows reach, edges included; for reading from a history. 0: without limit."""
    if layout.keeps_facts and not layout.last_reach_us:
        return 0
    return max(layout.minute_reach_us, layout.hour_reach_us, layout.last_reach_us) + 61 * MINUTE_US
