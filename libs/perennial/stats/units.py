"""Was a column multiplied by something? The factor (and offset) that makes a window look like its reference again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perennial.stats.cells import ORDER, raw_cells
from perennial.stats.columns import HEAD, Counts, NumberColumn

Floats = NDArray[np.float64]

FORWARD = {
    "kilometres for miles": (1.609344, 0.0),
    "nautical miles for miles": (0.868976242, 0.0),
    "metres for feet": (0.3048, 0.0),
    "centimetres for inches": (2.54, 0.0),
    "kilograms for pounds": (0.45359237, 0.0),
    "km/h for knots": (1.852, 0.0),
    "km/h for m/s": (3.6, 0.0),
    "inches of mercury for hectopascals": (0.0295299830714, 0.0),
    "litres for gallons": (3.785411784, 0.0),
    "seconds for minutes": (60.0, 0.0),
    "seconds for hours": (3600.0, 0.0),
    "hours for days": (24.0, 0.0),
    "percent for shares": (100.0, 0.0),
    "tens": (10.0, 0.0),
    "thousandths": (1000.0, 0.0),
    "millionths": (1e6, 0.0),
    "Fahrenheit for Celsius": (1.8, 32.0),
    "Kelvin for Celsius": (1.0, 273.15),
}
"""Conversions (new = old * factor + offset) that are tried by name, and backwards."""

KNOWN = {
    **FORWARD,
    **{f"not {name}": (1 / factor, -offset / factor) for name, (factor, offset) in FORWARD.items()},
}
NEAR = np.exp(np.arange(-80, 81) * 0.02)
FAR = np.exp(np.arange(17, 77) * 0.1)
GRID = np.unique(np.concatenate([1 / FAR, NEAR[np.abs(np.log(NEAR)) > 0.05], FAR]))
NAMES = [*KNOWN, *([""] * len(GRID))]
FACTORS = np.array([*(f for f, _ in KNOWN.values()), *GRID])
OFFSETS = np.array([*(o for _, o in KNOWN.values()), *np.zeros(len(GRID))])
NEAR_ENOUGH = 0.08
NAMED_ADVANTAGE = 0.02
"""A conversion with a name is believed over a nameless factor that is likelier by no more than this (nats a row)."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """``before``: KS D between window and reference; ``after``: the same once the window is converted back by the best
    ``new = old * factor + offset`` found (``name`` when it is one of the known ones); ``spread``: bins that hold rows.
    """

    factor: float
    offset: float
    name: str
    before: float
    after: float
    spread: int
    rows: int


def scaling_of(column: NumberColumn, counts: Counts, *, within: float = 1.0) -> Scaling | None:
    """The scaling that fits a window best; None when window or reference hold no number, or none brings D down to ``within``.

    Of the candidates whose D after converting back is near the least one, the most likely by the counts of single bins is taken:
    for a discrete column these tell 1.609 from 1.6.
    """
    window = column.distribution(counts)
    rows = int(window.sum())
    if not rows or not len(column.cells) or column.values < 2:
        return None
    heaped = np.cumsum(window)[:-1] / rows
    expected = column.share_below(((column.edges[None, :] - OFFSETS[:, None]) / FACTORS[:, None]).ravel())
    gaps = np.abs(expected.reshape(len(FACTORS), -1) - heaped).max(axis=1)
    if gaps.min() > within:
        return None
    near = np.flatnonzero(gaps <= gaps.min() + NEAR_ENOUGH)
    scores = np.array([likelihood(column, counts, i) + NAMED_ADVANTAGE * (i < len(KNOWN)) for i in near.tolist()])
    best = int(near[int(scores.argmax())])
    return Scaling(
        float(FACTORS[best]),
        float(OFFSETS[best]),
        NAMES[best],
        distance(column, heaped),
        float(gaps[best]),
        int((window > 0).sum()),
        rows,
    )


def likelihood(column: NumberColumn, counts: Counts, candidate: int) -> float:
    """Mean log-likelihood of a window's numbers, in nats a row, if they are the reference's under one conversion; two rows in a
    hundred may be anything.
    """
    moved = column.cell_values * FACTORS[candidate] + OFFSETS[candidate]
    bins = column.look_up[ORDER[raw_cells(moved, np.float32(column.centre))]]
    held = np.bincount(bins, column.cell_counts, column.bins)
    expected = 0.98 * held / held.sum() + 0.02 / column.bins
    numbers = counts[HEAD:]
    return float((numbers * np.log(expected[HEAD:])).sum() / max(int(numbers.sum()), 1))


def distance(column: NumberColumn, heaped: Floats) -> float:
    """KS D between a window's distribution function at the bins' ends (without the last) and the reference's."""
    own = column.distribution(column.counts)
    return float(np.abs(heaped - np.cumsum(own)[:-1] / own.sum()).max(initial=0.0))
