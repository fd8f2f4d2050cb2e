"""How far do windows stray when nothing is wrong? Thresholds from blocks (days) of the reference itself.

Rows of a day share weather, staffing, campaigns: tests that assume independent rows fire all the time on them. So each block,
left out in turn, is measured against the others, and independent draws from the whole are measured too. The root of a
statistic behaves like the size of a shift: its mean square over blocks is a part that more rows do not shrink (cluster) and
one that they do (sampling / rows). A window's root statistic over that scale is held against Student's t with as many degrees
of freedom as there were blocks, less one: that gives p-values and thresholds far beyond the rarest block seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.stats.columns import Column, Counts, Grid, NumberColumn
from perennial.stats.drift import TESTS, DriftTest, Measurement
from perennial.stats.reference import Noise, PaneNoise, Profile

DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000
DRAWS = 16
SEED = 20_130_101


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """Blocks that share their noise, panes, the rows a window needs, and the false alarms wanted: per deployment and 30 days
    over all columns, for windows of one block each.
    """

    block_us: int = DAY_US
    pane_us: int = HOUR_US
    min_rows: int = 500
    pane_rows: int = 40
    false_alarms: float = 1.0


def measured(test: DriftTest, column: Column, reference: Counts, window: Counts) -> Measurement | None:
    """One column's two sides put to a test; None where the test does not apply (order asked of texts) or both sides are empty.
    Where only one side holds anything, the difference is as large as can be measured against an even spread.
    """
    if isinstance(column, NumberColumn) and test.ordered:
        sides = column.distribution(reference), column.distribution(window)
        positions = (column.positions - column.centre) / column.scale
    elif test.ordered:
        return None
    else:
        sides, positions = (column.grouped(reference), column.grouped(window)), None
    if not sides[0].any() and not sides[1].any():
        return Measurement(0.0, 1.0)
    if not sides[0].any() or not sides[1].any():
        return Measurement(1.0, 0.0)
    return test.measure(*sides, positions=positions)


def root(test: DriftTest, statistic: float) -> float:
    """The statistic on the scale of a shift."""
    return math.sqrt(max(statistic, 0.0)) if test.power == 2 else statistic


def window_noise_of(grid: Grid, blocks: NDArray[np.int64], policy: WindowPolicy) -> Noise:
    """The noise of every test on every column, from counts a block (blocks x bins)."""
    windows = _windows(blocks, grid, policy.min_rows)
    total = blocks.sum(axis=0)
    scales = {}
    for test in TESTS.values():
        rows = [
            _scale(test, column, grid.counts_of(place, total), grid.counts_of(place, windows))
            for place, column in enumerate(grid.columns)
        ]
        scales[test.name] = np.array(rows).reshape(-1, 2)
    return Noise(len(windows), scales)


def _windows(blocks: NDArray[np.int64], grid: Grid, min_rows: int) -> NDArray[np.int64]:
    """Neighbouring blocks taken together until each window has the rows that a live one would have."""
    if not grid.columns:
        return blocks
    per_block = grid.counts_of(0, blocks).sum(axis=1)
    together = max(1, math.ceil(min_rows / max(float(np.median(per_block)), 1.0)))
    starts = np.arange(0, len(blocks), min(together, len(blocks)))
    return np.add.reduceat(blocks, starts, axis=0)


def _scale(test: DriftTest, column: Column, total: Counts, windows: NDArray[np.int64]) -> tuple[float, float]:
    """Cluster and sampling part of the squared root statistic of one test on one column."""
    sizes = windows.sum(axis=1).astype(float)
    sampling = _sampling(test, column, total, int(max(np.median(sizes), 1)))
    squares = []
    for window in windows:
        found = measured(test, column, total - window, window) if (total - window).any() else None
        squares.append(_per_row_free(test, root(test, found.statistic) ** 2, window) if found else 0.0)
    within = sampling * float(np.mean(1 / np.maximum(sizes, 1)))
    return max(0.0, float(np.mean(squares)) - within), sampling


def _per_row_free(test: DriftTest, square: float, window: Counts) -> float:
    """Chi-square grows with the rows of a window: per row it is comparable with the others."""
    return square / max(int(window.sum()), 1) if test.name == "chi_square" else square


def _sampling(test: DriftTest, column: Column, total: Counts, rows: int) -> float:
    """Squared root statistic of independent windows, times their rows."""
    held = int(total.sum())
    if not held:
        return 0.0
    rows = min(rows, held)
    draws = np.random.default_rng(SEED).multinomial(rows, total / held, size=DRAWS)
    found = (measured(test, column, total, draw) for draw in draws)
    squares = [_per_row_free(test, root(test, f.statistic) ** 2, np.array([rows])) for f in found if f]
    return float(np.mean(squares)) * rows if squares else 0.0


def threshold_of(profile: Profile, place: int, test: DriftTest, rows: int, tail: float) -> float:
    """The statistic that a window of so many rows exceeds with probability ``tail`` when nothing is wrong; infinite where the
    reference was too short to tell (fewer than three blocks).
    """
    noise = profile.noise
    if noise is None or noise.windows < 3:
        return math.inf
    limit = quantile_of(tail, noise.windows - 1) * _root_scale(noise, test, place, rows)
    square = limit * limit * (rows if test.name == "chi_square" else 1)
    return square if test.power == 2 else limit


def p_value_of(profile: Profile, place: int, test: DriftTest, rows: int, statistic: float) -> float:
    """How rare so large a statistic is among windows where nothing is wrong; 1 where the reference cannot tell."""
    noise = profile.noise
    if noise is None or noise.windows < 3 or rows == 0:
        return 1.0
    size = root(test, statistic) / (math.sqrt(rows) if test.name == "chi_square" else 1.0)
    scale = _root_scale(noise, test, place, rows)
    if size == 0.0:
        return 1.0
    return tail_of(size / scale, noise.windows - 1) if scale > 0 else 0.0


def _root_scale(noise: Noise, test: DriftTest, place: int, rows: int) -> float:
    cluster, sampling = noise.scales[test.name][place]
    return math.sqrt(float(cluster) + float(sampling) / max(rows, 1))


def tail_of(size: float, degrees: int) -> float:
    """P(|t| > size)."""
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(size)))


def quantile_of(tail: float, degrees: int) -> float:
    """The size that |t| exceeds with probability ``tail``."""
    from scipy.special import stdtrit

    return float(-stdtrit(degrees, tail / 2))


def pane_noise_of(grid: Grid, panes: NDArray[np.int64], policy: WindowPolicy) -> PaneNoise:
    """What single panes of the reference show at most: a row a column of (90 % point of KS D, its maximum, largest missing
    share); texts have no D.
    """
    figures = np.zeros((len(grid.columns), 3))
    used = 0
    for place, column in enumerate(grid.columns):
        counts = grid.counts_of(place, panes)
        chosen = counts[counts.sum(axis=1) >= policy.pane_rows]
        used = max(used, len(chosen))
        if not len(chosen):
            continue
        figures[place, 2] = float((chosen[:, 0] / chosen.sum(axis=1)).max())
        if isinstance(column, NumberColumn):
            figures[place, :2] = _pane_distances(column, chosen, policy.pane_rows)
    return PaneNoise(figures, used)


def _pane_distances(column: NumberColumn, panes: NDArray[np.int64], pane_rows: int) -> tuple[float, float]:
    spread = column.distribution(panes)
    spread = spread[spread.sum(axis=1) >= pane_rows]
    whole = column.distribution(column.counts)
    if not len(spread) or not whole.any():
        return 0.0, 0.0
    shares = np.cumsum(spread, axis=1) / spread.sum(axis=1, keepdims=True)
    gaps = np.abs(shares - np.cumsum(whole) / whole.sum()).max(axis=1)
    return float(np.quantile(gaps, 0.9)), float(gaps.max())
