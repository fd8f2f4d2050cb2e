"""What is known of one column of a reference? Its bins, their counts, and for numbers a fine histogram as a sketch.

Every column's counts start with the same four special bins, so a fold is one array over all columns::

    numbers:  missing | mistyped | -inf | +inf | values, low to high (tails, range, tails) | the same again, novel values
    texts:    missing | mistyped | unseen | rare | categories, most frequent first
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.stats.cells import CELLS

MISSING, MISTYPED, NEGATIVE_INFINITY, POSITIVE_INFINITY = 0, 1, 2, 3
UNSEEN, RARE = 2, 3
HEAD = 4

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers: a sketch of the reference (``cells``, their counts and mean values) and the bins of its folds.

    ``uppers[i]`` is the last cell of value bin i; the bins ``low`` to ``high`` (excluded) cover the reference's range, those
    outside are tails. A discrete column counts values that the reference never had apart (novel).
    """

    name: str
    centre: float
    scale: float
    cells: NDArray[np.uint16]
    cell_counts: Counts
    cell_values: NDArray[np.float64]
    uppers: NDArray[np.uint16]
    edges: NDArray[np.float64]
    low: int
    high: int
    discrete: bool
    counts: Counts

    @property
    def values(self) -> int:
        """How many value bins there are."""
        return len(self.uppers)

    @property
    def bins(self) -> int:
        """How many bins there are in all."""
        return HEAD + self.values * (2 if self.discrete else 1)

    def distribution(self, counts: Counts) -> Counts:
        """Counts over the value bins, novel values among them; works on a matrix of folds too."""
        found = counts[..., HEAD : HEAD + self.values]
        return found + counts[..., HEAD + self.values :] if self.discrete else found

    def novel_inside(self, counts: Counts) -> int:
        """Rows within the reference's range whose value it never had (discrete columns only)."""
        return int(counts[HEAD + self.values + self.low : HEAD + self.values + self.high].sum()) if self.discrete else 0

    def outside(self, counts: Counts) -> int:
        """Rows outside the reference's range."""
        spread = self.distribution(counts)
        return int(spread[: self.low].sum() + spread[self.high :].sum())

    @cached_property
    def coarse(self) -> NDArray[np.int64]:
        """First value bin of each of at most ten groups of about equal share: what PSI and its kin look at."""
        inside = self.distribution(self.counts)
        total = int(inside.sum())
        if total == 0:
            return np.zeros(1, np.int64)
        below = np.concatenate([[0], np.cumsum(inside)[:-1]])
        decile = np.minimum(below * 10 // total, 9)
        starts = np.flatnonzero(np.diff(decile, prepend=-1))
        return starts.astype(np.int64)

    def grouped(self, counts: Counts) -> Counts:
        """Counts over at most ten groups of bins, then the missing."""
        groups = np.add.reduceat(self.distribution(counts), self.coarse, axis=-1)
        return np.concatenate([groups, counts[..., MISSING : MISSING + 1]], axis=-1)

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """A typical value of each value bin: the reference's mean there, else the bin's nearest edge."""
        place = np.searchsorted(self.uppers, self.cells)
        weight = np.bincount(place, self.cell_counts, self.values)
        mean = np.bincount(place, self.cell_counts * self.cell_values, self.values) / np.maximum(weight, 1)
        nearest = np.concatenate([self.edges, self.edges[-1:]]) if len(self.edges) else np.full(1, self.centre)
        return np.maximum.accumulate(np.where(weight > 0, mean, nearest))

    def share_below(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The reference's distribution function at ``x``, exact to half a cell."""
        heaped = np.concatenate([[0], np.cumsum(self.cell_counts)])
        return np.asarray(heaped[np.searchsorted(self.cell_values, x, side="right")] / max(int(heaped[-1]), 1))

    def quantile(self, share: float) -> float:
        """The reference's quantile, to within half a cell; NaN when the column was empty."""
        if not len(self.cells):
            return float("nan")
        heaped = np.cumsum(self.cell_counts)
        return float(self.cell_values[min(int(np.searchsorted(heaped, share * heaped[-1])), len(self.cells) - 1)])

    def mean(self, counts: Counts, total: int) -> float:
        """Mean of the non-null values of a fold whose fixed-point sum is ``total``; NaN when there are none."""
        rows = int(counts[HEAD:].sum())
        return self.centre + total * self.scale / SUM_UNITS / rows if rows else float("nan")

    @cached_property
    def look_up(self) -> NDArray[np.int32]:
        """Bin of each raw cell, for :mod:`fold`."""
        ordered = np.arange(CELLS)
        bins = HEAD + np.searchsorted(self.uppers, np.minimum(ordered, int(self.uppers[-1])))
        if self.discrete:
            novel = np.ones(CELLS, bool)
            novel[self.cells] = False
            bins = bins + np.where(novel, self.values, 0)
        return bins.astype(np.int32)


@dataclass(frozen=True)
class TextColumn:
    """A column of texts: its frequent categories; the others of the reference are ``rare``, all else is unseen."""

    name: str
    categories: tuple[str, ...]
    rare: tuple[str, ...]
    counts: Counts

    @property
    def bins(self) -> int:
        """How many bins there are in all."""
        return HEAD + len(self.categories)

    def grouped(self, counts: Counts) -> Counts:
        """Counts over categories, the rare and the unseen as one, then the missing."""
        other = counts[..., UNSEEN : UNSEEN + 1] + counts[..., RARE : RARE + 1]
        return np.concatenate([counts[..., HEAD:], other, counts[..., MISSING : MISSING + 1]], axis=-1)

    def unseen(self, counts: Counts) -> int:
        """Rows with a text that the reference never had."""
        return int(counts[UNSEEN])


Column = NumberColumn | TextColumn

SUM_UNITS = 2**16
"""Sums count in units of scale/65536 from the column's centre."""
SUM_LIMIT = 2**40
"""Distances beyond this many units count as this many: no row can spoil an int64 sum of four million rows."""


@dataclass(frozen=True)
class Grid:
    """The columns of one table (a model's inputs, or its outputs): where each one's bins begin in a fold's counts."""

    numbers: tuple[NumberColumn, ...]
    texts: tuple[TextColumn, ...]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Numbers, then texts."""
        return (*self.numbers, *self.texts)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First bin of each column, then the end."""
        return tuple(int(x) for x in np.concatenate([[0], np.cumsum([c.bins for c in self.columns])]))

    @property
    def bins(self) -> int:
        """How many bins all columns have."""
        return self.starts[-1]

    def counts_of(self, place: int, counts: NDArray[Any]) -> Counts:
        """One column's part of a grid's counts (of a vector, or of a matrix of folds)."""
        return counts[..., self.starts[place] : self.starts[place + 1]]
