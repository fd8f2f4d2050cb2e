"""Kolmogorov–Smirnov two-sample test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from perennial.stats.drift.base import DriftTest, Measurement, kolmogorov_tail, paired, sample, to_float


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov(DriftTest):
    r"""The largest gap between the two distribution functions.

    D = max_x |F(x) - G(x)|; p is the limiting one, with n m / (n + m) rows (Smirnov 1939). Over bins D is a lower bound: below
    the D of the rows by at most the larger share of the heaviest bin.

    >>> KolmogorovSmirnov().measure(reference=[2, 2, 0], window=[0, 2, 2]).statistic
    0.5
    """

    name: ClassVar[str] = "ks"
    ordered: ClassVar[bool] = True
    power: ClassVar[int] = 1

    def measure(self, reference: ArrayLike, window: ArrayLike, *, positions: ArrayLike | None = None) -> Measurement:  # noqa: ARG002
        """D over the bins' ends, and its p-value."""
        first, second = paired(reference, window)
        n, m = float(first.sum()), float(second.sum())
        distance = to_float(np.abs(np.cumsum(first) / n - np.cumsum(second) / m).max())
        return Measurement(distance, kolmogorov_tail(distance, n * m / (n + m)))

    def measure_samples(self, reference: ArrayLike, window: ArrayLike) -> Measurement:
        """D of the rows themselves, and its p-value."""
        first, second = np.sort(sample(reference, "reference")), np.sort(sample(window, "window"))
        points = np.concatenate([first, second])
        below = np.searchsorted(first, points, side="right") / len(first)
        beside = np.searchsorted(second, points, side="right") / len(second)
        distance = to_float(np.abs(below - beside).max())
        rows = len(first) * len(second) / (len(first) + len(second))
        return Measurement(distance, kolmogorov_tail(distance, rows))
