"""How do a reference's rows become bins? Quantile bins over cells, tails beyond the range, frequent categories."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.stats import rows as shapes
from perennial.stats.cells import FIRST, LAST, ORDER, STARTS, ZERO, raw_cells
from perennial.stats.columns import HEAD, MISSING, RARE, Grid, NumberColumn, TextColumn

BINS = 128
"""Quantile bins of a number column: KS on them is within 1/128 of KS on the rows, plus heavier single values."""
MOST_VALUES = 512
"""A column of at most this many distinct values, each seen often, is discrete."""
MOST_CATEGORIES = 100
LEAST_SHARE = 0.001
AWAY_BINS, FACTOR_BINS = 24, 41


def grid_of(table: shapes.Rows) -> Grid:
    """The grid of a reference table. InvalidArgument when it has no rows or a number is infinite."""
    if table.rows == 0:
        raise InvalidArgument("a reference needs rows; this one has none")
    numbers = tuple(number_column(n, table.numbers[:, i]) for i, n in enumerate(table.number_names))
    texts = tuple(text_column(name, column) for name, column in table.texts.items())
    return Grid(numbers, texts)


def number_column(name: str, values: NDArray[np.floating[Any]]) -> NumberColumn:
    """The column of these reference values; NaN is missing. Constant and empty columns are columns too."""
    with np.errstate(over="ignore"):
        taken = values.astype(np.float32).astype(np.float64)
    if np.isinf(taken).any():
        raise InvalidArgument(f"column {name!r}: a reference value is infinite (or beyond float32)")
    known = np.sort(taken[~np.isnan(taken)])
    centre, scale = _centre_and_scale(known)
    distinct = len(np.unique(known))
    cells, starts = np.unique(ORDER[raw_cells(known, np.float32(centre))], return_index=True)
    counts = np.diff(np.append(starts, len(known))).astype(np.int64)
    means = np.add.reduceat(known, starts) / counts if len(known) else np.empty(0)
    uppers, low, high = _bins(cells, counts, known, centre)
    discrete = 0 < distinct <= MOST_VALUES and len(known) >= 20 * distinct
    return NumberColumn(
        name=name,
        centre=centre,
        scale=scale,
        cells=cells,
        cell_counts=counts,
        cell_values=means,
        uppers=uppers,
        edges=_edges(uppers, cells, means, centre),
        low=low,
        high=high,
        discrete=discrete,
        counts=_reference_counts(cells, counts, uppers, discrete=discrete, missing=len(taken) - len(known)),
    )


def _reference_counts(
    cells: NDArray[np.uint16], counts: NDArray[np.int64], uppers: NDArray[np.uint16], *, discrete: bool, missing: int
) -> NDArray[np.int64]:
    """The reference itself as a fold of one column would hold it."""
    held = np.zeros(HEAD + len(uppers) * (2 if discrete else 1), np.int64)
    np.add.at(held, HEAD + np.searchsorted(uppers, cells), counts)
    held[MISSING] = missing
    return held


def _centre_and_scale(known: NDArray[np.float64]) -> tuple[float, float]:
    """Zero is the centre unless the values lie far from it for their spread: factors show best as seen from zero."""
    if not len(known):
        return 0.0, 1.0
    low, middle, high = (float(np.float32(q)) for q in np.quantile(known, [0.25, 0.5, 0.75], method="lower"))
    spread = high - low or float(known[-1] - known[0]) or abs(middle) or 1.0
    return (0.0 if abs(middle) <= 4 * spread and known[0] != known[-1] else middle), spread


def _bins(
    cells: NDArray[np.uint16], counts: NDArray[np.int64], known: NDArray[np.float64], centre: float
) -> tuple[NDArray[np.uint16], int, int]:
    """Last cells of the bins, and which of them cover the reference's range."""
    if not len(known):
        return np.array([ZERO - 1, ZERO, LAST], np.uint16), 1, 1
    below = np.cumsum(counts) - counts
    group = below * BINS // int(counts.sum())
    inner = cells[np.flatnonzero(np.diff(group, append=-1))].astype(np.int64)  # the last cell of each group
    first, last = int(cells[0]), int(cells[-1])
    under, over = _tails(float(known[0]), float(known[-1]), centre)
    lower = sorted({c for c in under if FIRST <= c < first - 1} | {first - 1})
    upper = sorted({c for c in over if last < c < LAST} | ({LAST} - {last}))
    uppers = np.array([*lower, *inner, *upper], np.uint16)
    return uppers, len(lower), len(lower) + len(inner)


def _tails(lowest: float, highest: float, centre: float) -> tuple[set[int], set[int]]:
    """Cells that end tail bins below and above the range: ever wider steps away from it, and, as seen from a centre of zero,
    steps by a factor towards and away from zero, so that a changed unit keeps a shape.
    """
    span = (highest - lowest) or abs(lowest) or 1.0
    away = span * 2.0 ** (np.arange(AWAY_BINS) / 2 - 2)
    under, over = [lowest - away], [highest + away]
    if centre == 0.0:
        growing = 2.0 ** (np.arange(1, FACTOR_BINS) / 4)
        under.append(lowest / growing if lowest > 0 else lowest * growing)
        over.append(highest * growing if highest > 0 else highest / growing)
    limit = float(np.finfo(np.float32).max) / 4
    points = [np.clip(np.concatenate(side), -limit, limit) for side in (under, over)]
    below, above = (ORDER[raw_cells(side, np.float32(centre))].astype(int).tolist() for side in points)
    return set(below), set(above)


def _edges(
    uppers: NDArray[np.uint16], cells: NDArray[np.uint16], means: NDArray[np.float64], centre: float
) -> NDArray[np.float64]:
    """A number between each bin and the next: between the reference's neighbours where both bins are in its range."""
    upper = uppers[:-1].astype(np.int64)
    plain = centre + np.where(upper >= ZERO, STARTS[np.minimum(upper + 1, LAST)], STARTS[upper])
    place = np.searchsorted(cells, upper, side="right")  # how many populated cells lie at or below
    inside = (place > 0) & (place < len(cells))
    left = means[np.clip(place - 1, 0, max(len(means) - 1, 0))] if len(means) else plain
    right = means[np.clip(place, 0, max(len(means) - 1, 0))] if len(means) else plain
    return np.maximum.accumulate(np.where(inside, (left + right) / 2, plain))


def text_column(name: str, column: shapes.TextColumn) -> TextColumn:
    """The column of these reference texts: a category needs a share of 0.1 % and a place among the first hundred."""
    used = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values))
    seen: Counter[str] = Counter()
    for value, count in zip(column.values, used.tolist(), strict=True):
        if count:
            seen[value] += count
    total = sum(seen.values())
    ranked = sorted(seen, key=lambda value: (-seen[value], value))
    kept = [v for v in ranked[:MOST_CATEGORIES] if seen[v] >= LEAST_SHARE * total]
    rare = ranked[len(kept) :]
    counts = np.zeros(HEAD + len(kept), np.int64)
    counts[MISSING] = int((column.codes < 0).sum())
    counts[RARE] = sum(seen[v] for v in rare)
    counts[HEAD:] = [seen[v] for v in kept]
    return TextColumn(name, tuple(kept), tuple(sorted(rare)), counts)
