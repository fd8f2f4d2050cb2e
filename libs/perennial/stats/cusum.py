"""Has the mean of a stream of block means moved? A two-sided cumulative sum chart with a scale that outliers cannot move.

S+ = max(0, S+ + z - k), S- = max(0, S- - z - k), z = mean / sigma, alarm when either exceeds h (Page 1954, Biometrika 41;
k = 0.5 and h = 5: one alarm in about 465 blocks of white noise, Montgomery 2009, p. 404). sigma = 1.4826 MAD / sqrt(2) of
the differences of the last 29 block means: differences take a slow trend out, so drift does not hide itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from perennial.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class ChartPolicy:
    """``slack`` and ``limit`` in sigma; sigma from the last ``history`` blocks, the reference's until there are ``least``."""

    slack: float = 0.5
    limit: float = 5.0
    history: int = 29
    least: int = 8


@dataclass(frozen=True, slots=True)
class Alarm:
    """The chart passed its limit: by how much (``value``, in sigma), which way, and how many blocks ago the change began."""

    value: float
    direction: Literal["up", "down"]
    since_blocks: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart's whole state; ``updated`` makes the next one."""

    policy: ChartPolicy = field(default_factory=ChartPolicy)
    reference: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    upper: float = 0.0
    lower: float = 0.0
    upper_blocks: int = 0
    lower_blocks: int = 0

    @classmethod
    def start(cls, reference: Sequence[float] = (), policy: ChartPolicy | None = None) -> Chart:
        """A chart at rest; ``reference`` are block means of out-of-sample errors, for sigma until live blocks suffice."""
        policy = policy or ChartPolicy()
        return cls(policy, tuple(float(m) for m in reference if math.isfinite(m))[-policy.history :])

    @property
    def value(self) -> float:
        """The larger of the two sums, in sigma."""
        return max(self.upper, self.lower)

    @property
    def sigma(self) -> float:
        """Scale of a block mean; NaN when neither live blocks nor the reference tell."""
        if len(self.means) >= self.policy.least:
            return scale_of(self.means)
        return scale_of((*self.reference, *self.means)[-self.policy.history :] if len(self.reference) > 1 else self.means)

    def updated(self, block_mean: float) -> tuple[Chart, Alarm | None]:
        """The chart after one more block, and the alarm if it is past the limit. A chart that alarms keeps its sums: the caller
        decides when to ``reset``. Without a scale a block is remembered and judged by nothing. InvalidArgument on NaN.

        >>> chart = Chart.start([1.0, -1.0, 0.5, -0.5, 1.0])
        >>> chart, alarm = chart.updated(0.1)
        >>> alarm is None
        True
        """
        if not math.isfinite(block_mean):
            raise InvalidArgument(f"a block mean of {block_mean} cannot be charted")
        sigma = self.sigma
        means = (*self.means, float(block_mean))[-self.policy.history :]
        if not math.isfinite(sigma):
            return replace(self, means=means), None
        step = _standardised(block_mean, sigma)
        upper = max(0.0, self.upper + step - self.policy.slack)
        lower = max(0.0, self.lower - step - self.policy.slack)
        chart = replace(
            self,
            means=means,
            upper=upper,
            lower=lower,
            upper_blocks=self.upper_blocks + 1 if upper else 0,
            lower_blocks=self.lower_blocks + 1 if lower else 0,
        )
        return chart, chart.alarm

    @property
    def alarm(self) -> Alarm | None:
        """The alarm that the chart stands at, if it does."""
        if self.value <= self.policy.limit:
            return None
        if self.upper >= self.lower:
            return Alarm(self.upper, "up", self.upper_blocks)
        return Alarm(self.lower, "down", self.lower_blocks)

    def reset(self, reference: Sequence[float] | None = None) -> Chart:
        """The chart at rest again (promotion, decline, failure, rollback); it keeps the block means that give it its scale,
        and takes another version's reference when one is given.
        """
        kept = replace(self, upper=0.0, lower=0.0, upper_blocks=0, lower_blocks=0)
        return kept if reference is None else replace(kept, reference=Chart.start(reference, self.policy).reference)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        policy = self.policy
        return {
            "policy": [policy.slack, policy.limit, policy.history, policy.least],
            "reference": list(self.reference),
            "means": list(self.means),
            "sums": [self.upper, self.lower],
            "blocks": [self.upper_blocks, self.lower_blocks],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Chart:
        """The chart of these plain values."""
        slack, limit, history, least = values["policy"]
        policy = ChartPolicy(slack, limit, int(history), int(least))
        return cls(policy, tuple(values["reference"]), tuple(values["means"]), *values["sums"], *map(int, values["blocks"]))


LARGEST_STEP = 1e6


def _standardised(mean: float, sigma: float) -> float:
    """The mean in sigma; a scale of zero (all blocks equal) makes any other mean a large step, not an infinite one."""
    if sigma > 0:
        return max(-LARGEST_STEP, min(LARGEST_STEP, mean / sigma))
    return math.copysign(LARGEST_STEP, mean) if mean else 0.0


def scale_of(means: Sequence[float]) -> float:
    """Sigma = 1.4826 MAD / sqrt(2) of the differences of the means; NaN below two differences.

    >>> round(scale_of([0.0, 1.0, 0.0, 1.0, 0.0]), 4)
    1.0484
    """
    steps = np.diff(np.asarray(means, float))
    if len(steps) < 2:
        return float("nan")
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / math.sqrt(2))
