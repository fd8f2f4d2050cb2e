"""Pearson's chi-square test of homogeneity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from perennial.stats.drift.base import DriftTest, Floats, Measurement, occupied, paired, to_float


@dataclass(frozen=True, slots=True)
class ChiSquare(DriftTest):
    r"""Whether reference and window could come from one distribution over the bins.

    chi2 = sum over the 2 x k table of (observed - expected)^2 / expected, k - 1 degrees of freedom. Bins of which either side
    expects fewer than ``least_expected`` rows are merged into one before (Cochran 1954: five).

    >>> ChiSquare().measure(reference=[30, 30], window=[30, 30]).p_value
    1.0
    """

    name: ClassVar[str] = "chi_square"
    ordered: ClassVar[bool] = False
    power: ClassVar[int] = 2
    least_expected: float = 5.0

    def measure(self, reference: ArrayLike, window: ArrayLike, *, positions: ArrayLike | None = None) -> Measurement:  # noqa: ARG002
        """The statistic and its p-value; one bin left is no difference."""
        first, second = self._merged(*occupied(*paired(reference, window)))
        if len(first) < 2:
            return Measurement(0.0, 1.0)
        observed = np.array([first, second])
        expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0) / observed.sum()
        statistic = to_float(np.sum((observed - expected) ** 2 / expected))
        return Measurement(statistic, _tail(statistic, len(first) - 1))

    def _merged(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        both = first + second
        thin = both * min(first.sum(), second.sum()) / both.sum() < self.least_expected
        if thin.sum() < 2:
            return first, second
        return (
            np.append(first[~thin], first[thin].sum()),
            np.append(second[~thin], second[thin].sum()),
        )


def _tail(statistic: float, degrees: int) -> float:
    from scipy.special import chdtrc

    return float(chdtrc(degrees, statistic))
