"""Kullback–Leibler divergence over the reference's bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from perennial.stats.drift.base import DriftTest, Measurement, occupied, paired, shares, to_float


@dataclass(frozen=True, slots=True)
class KullbackLeibler(DriftTest):
    r"""How surprising the window is to one who expects the reference.

    KL = sum_i q_i ln(q_i / p_i), with p the reference's and q the window's shares, both smoothed by ``alpha``. Unit: nats.
    (Kullback and Leibler 1951, Annals of Mathematical Statistics 22.)

    >>> KullbackLeibler().measure(reference=[5, 5], window=[5, 5]).statistic
    0.0
    """

    name: ClassVar[str] = "kl"
    ordered: ClassVar[bool] = False
    power: ClassVar[int] = 2
    alpha: float = 0.5

    def measure(self, reference: ArrayLike, window: ArrayLike, *, positions: ArrayLike | None = None) -> Measurement:  # noqa: ARG002
        """The divergence; it has no p-value of its own."""
        first, second = occupied(*paired(reference, window))
        p, q = shares(first, self.alpha), shares(second, self.alpha)
        held = q > 0
        return Measurement(max(0.0, to_float(np.sum(q[held] * np.log(q[held] / p[held])))))
