"""What is a test of difference? Two sets of counts over the same bins, or two raw samples, in; a measurement out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perennial.errors import InvalidArgument

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A statistic and, where the test has one, its p-value for independent rows (else None)."""

    statistic: float
    p_value: float | None = None


class DriftTest(ABC):
    """One way to measure how far a window is from its reference.

    Whatever finite counts or samples it is given, an implementation answers with a finite statistic that is 0 for equal shares
    and grows with the difference, or raises InvalidArgument; it never answers NaN. Equal bins that are empty on both sides
    change nothing.
    """

    name: ClassVar[str]
    ordered: ClassVar[bool]
    """Whether bins have an order (numbers only)."""
    power: ClassVar[int]
    """1 when the statistic grows like a shift of the mean, 2 when like its square."""

    @abstractmethod
    def measure(self, reference: ArrayLike, window: ArrayLike, *, positions: ArrayLike | None = None) -> Measurement:
        """The difference of two sets of counts; ``positions`` are typical values of the bins, low to high (Wasserstein)."""

    def measure_samples(self, reference: ArrayLike, window: ArrayLike) -> Measurement:
        """The difference of two samples of numbers, over the reference's deciles where the test needs bins."""
        first, second = sample(reference, "reference"), sample(window, "window")
        edges = np.unique(np.quantile(first, np.arange(1, 10) / 10))
        return self.measure(_binned(first, edges), _binned(second, edges))


def _binned(values: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)


def sample(values: ArrayLike, which: str) -> Floats:
    """A sample as floats. InvalidArgument when it is empty or holds NaN or infinity."""
    numbers = np.asarray(values, float).ravel()
    if not len(numbers) or not np.isfinite(numbers).all():
        raise InvalidArgument(f"the {which} sample is empty or not finite")
    return numbers


def paired(reference: ArrayLike, window: ArrayLike) -> tuple[Floats, Floats]:
    """Both sets of counts as floats. InvalidArgument when bins differ, a count is negative or a side is empty."""
    first, second = np.asarray(reference, float), np.asarray(window, float)
    if first.ndim != 1 or first.shape != second.shape:
        raise InvalidArgument(f"counts over {first.shape} and {second.shape} bins cannot be compared")
    for which, counts in (("reference", first), ("window", second)):
        total = float(counts.sum())
        if not math.isfinite(total) or total <= 0 or float(counts.min()) < 0:
            raise InvalidArgument(f"the {which}'s counts are empty, negative or not finite")
    return first, second


def shares(counts: Floats, smoothing: float = 0.0) -> Floats:
    """Shares of the bins after adding ``smoothing`` to each count."""
    held = counts + smoothing
    return np.asarray(held / held.sum())


def occupied(reference: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Both without the bins that are empty on both sides."""
    held = (reference > 0) | (window > 0)
    return reference[held], window[held]


def kolmogorov_tail(distance: float, rows: float) -> float:
    """P(sup |B| > distance * sqrt(rows)) for the Brownian bridge B: the limiting p-value of Kolmogorov and Smirnov.

    >>> round(kolmogorov_tail(1.36, 1), 3)
    0.049
    """
    x = distance * math.sqrt(rows)
    if x < 0.05:  # the tail differs from 1 by less than 1e-200 there
        return 1.0
    if x < 1.0:
        terms = sum(math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * x * x)) for k in range(1, 8))
        return max(0.0, 1 - math.sqrt(2 * math.pi) / x * terms)
    return min(1.0, 2 * math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 12)))


def to_float(value: Any) -> float:
    """A plain float without minus zero."""
    return float(value) + 0.0
