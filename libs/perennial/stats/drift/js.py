"""Jensen–Shannon distance over the reference's bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from perennial.stats.drift.base import DriftTest, Floats, Measurement, occupied, paired, shares, to_float


@dataclass(frozen=True, slots=True)
class JensenShannon(DriftTest):
    r"""How far both samples are from their mixture; it needs no smoothing and is at most sqrt(ln 2).

    JS = sqrt((KL(p | m) + KL(q | m)) / 2) with m = (p + q) / 2, in nats: a metric (Endres and Schindelin 2003).

    >>> round(JensenShannon().measure(reference=[1, 0], window=[0, 1]).statistic ** 2, 6)
    0.693147
    """

    name: ClassVar[str] = "js"
    ordered: ClassVar[bool] = False
    power: ClassVar[int] = 1

    def measure(self, reference: ArrayLike, window: ArrayLike, *, positions: ArrayLike | None = None) -> Measurement:  # noqa: ARG002
        """The distance; it has no p-value of its own."""
        first, second = occupied(*paired(reference, window))
        p, q = shares(first), shares(second)
        mixture = (p + q) / 2
        return Measurement(to_float(np.sqrt(max(0.0, (_divergence(p, mixture) + _divergence(q, mixture)) / 2))))


def _divergence(p: Floats, m: Floats) -> float:
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / m[held])))
