"""Wasserstein (earth mover's) distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from perennial.errors import InvalidArgument
from perennial.stats.drift.base import DriftTest, Floats, Measurement, paired, sample, to_float


@dataclass(frozen=True, slots=True)
class Wasserstein(DriftTest):
    r"""How far rows would have to move, on average, in the column's own unit.

    W = integral of |F(x) - G(x)| dx (Vallender 1974). Over bins each row lies at its bin's position; without positions bins are
    one apart.

    >>> Wasserstein().measure(reference=[1, 0], window=[0, 1], positions=[0.0, 3.0]).statistic
    3.0
    """

    name: ClassVar[str] = "wasserstein"
    ordered: ClassVar[bool] = True
    power: ClassVar[int] = 1

    def measure(self, reference: ArrayLike, window: ArrayLike, *, positions: ArrayLike | None = None) -> Measurement:
        """The distance; it has no p-value of its own."""
        first, second = paired(reference, window)
        places = np.arange(len(first), dtype=float) if positions is None else np.asarray(positions, float)
        if places.shape != first.shape or not np.isfinite(places).all() or (np.diff(places) < 0).any():
            raise InvalidArgument("positions are one finite number a bin, low to high")
        return Measurement(_moved(np.cumsum(first) / first.sum(), np.cumsum(second) / second.sum(), places))

    def measure_samples(self, reference: ArrayLike, window: ArrayLike) -> Measurement:
        """The distance of the rows themselves."""
        first, second = np.sort(sample(reference, "reference")), np.sort(sample(window, "window"))
        points = np.sort(np.concatenate([first, second]))
        below = np.searchsorted(first, points, side="right") / len(first)
        beside = np.searchsorted(second, points, side="right") / len(second)
        return Measurement(_moved(below, beside, points))


def _moved(first: Floats, second: Floats, places: Floats) -> float:
    return to_float(np.sum(np.abs(first - second)[:-1] * np.diff(places)))
