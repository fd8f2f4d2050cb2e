"""Population stability index over the reference's bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from perennial.stats.drift.base import DriftTest, Measurement, occupied, paired, shares, to_float


@dataclass(frozen=True, slots=True)
class PopulationStabilityIndex(DriftTest):
    r"""How far the share of each bin moved.

    PSI = sum_i (q_i - p_i) ln(q_i / p_i), with p the reference's and q the window's shares, both smoothed by ``alpha``.
    Unit: nats. 0 = same; 0.1 small; 0.2 large (Siddiqi 2006, Credit Risk Scorecards).

    >>> PopulationStabilityIndex().measure(reference=[50, 50], window=[50, 50]).statistic
    0.0
    """

    name: ClassVar[str] = "psi"
    ordered: ClassVar[bool] = False
    power: ClassVar[int] = 2
    alpha: float = 0.5

    def measure(self, reference: ArrayLike, window: ArrayLike, *, positions: ArrayLike | None = None) -> Measurement:  # noqa: ARG002
        """The index; it has no p-value of its own."""
        first, second = occupied(*paired(reference, window))
        p, q = shares(first, self.alpha), shares(second, self.alpha)
        return Measurement(to_float(np.sum((q - p) * np.log(q / p))))
