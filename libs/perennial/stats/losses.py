"""How wrong were these predictions? Losses by row, and sums of them that add up exactly in any order.

Sums are integers in units of 2**-40, so that figures of a block do not depend on batches, workers or repeats of an
addition in another order; SQL keeps them as ``numeric``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.stats.rows import Rows

UNIT = 2**40
LEAST_PROBABILITY = 1e-15
SCORE_BINS = 200

Floats = NDArray[np.float64]


def fixed_sum(values: NDArray[Any]) -> int:
    """Sum of the values, each rounded to a multiple of 2**-40. InvalidArgument when one is not finite.

    >>> import numpy as np
    >>> fixed_sum(np.array([0.5, 0.25])) / UNIT
    0.75
    """
    values = np.asarray(values, float)
    if not np.isfinite(values).all():
        raise InvalidArgument("a loss is not finite")
    if values.size == 0:
        return 0
    if np.abs(values).max() * UNIT < 2.0**62:
        units = np.rint(values * UNIT).astype(np.int64)
        return int((units >> 32).sum()) * 2**32 + int((units & 0xFFFFFFFF).sum())
    return sum(round(value * UNIT) for value in values.tolist())


def absolute_errors(truth: NDArray[Any], prediction: NDArray[Any]) -> Floats:
    """|truth - prediction| by row. InvalidArgument when lengths differ."""
    truth, prediction = np.asarray(truth, float), np.asarray(prediction, float)
    if truth.shape != prediction.shape:
        raise InvalidArgument(f"{len(truth)} truths do not fit {len(prediction)} predictions")
    return np.asarray(np.abs(truth - prediction))


def matrix_of(outputs: Rows, classes: Sequence[str]) -> Floats:
    """The probabilities [N, C] in an outputs table. InvalidArgument when a class has no column."""
    names = outputs.number_names
    if missing := [c for c in classes if f"p:{c}" not in names]:
        raise InvalidArgument(f"the outputs have no column {', '.join(f'p:{c}' for c in missing)}; there are {', '.join(names)}")
    return np.asarray(outputs.numbers[:, [names.index(f"p:{c}") for c in classes]], float)


def label_places(labels: Sequence[str] | NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """Index of each label among the classes. InvalidArgument when one is not among them."""
    index = {name: place for place, name in enumerate(classes)}
    try:
        return np.fromiter((index[str(label)] for label in labels), np.int64, len(labels))
    except KeyError as error:
        raise InvalidArgument(f"label {error.args[0]!r} is none of the classes {', '.join(classes)}") from None


def log_losses(labels: Sequence[str] | NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> Floats:
    """-ln of the probability given to the truth, by row; probabilities are normalised and kept above 1e-15 (nats)."""
    given = np.asarray(probabilities, float)
    if given.shape != (len(labels), len(classes)):
        raise InvalidArgument(f"probabilities of shape {given.shape} do not fit {len(labels)} labels x {len(classes)} classes")
    total = given.sum(axis=1)
    if not np.isfinite(given).all() or (given < 0).any() or (total <= 0).any():
        raise InvalidArgument("probabilities are finite, not negative and not all zero")
    chosen = given[np.arange(len(given)), label_places(labels, classes)] / total
    return np.asarray(-np.log(np.clip(chosen, LEAST_PROBABILITY, 1.0))) + 0.0


@dataclass(frozen=True)
class RegressionSums:
    """Errors of some rows; ``error`` (truth - prediction), ``absolute`` and ``squared`` in units of 2**-40."""

    count: int = 0
    error: int = 0
    absolute: int = 0
    squared: int = 0

    @classmethod
    def of(cls, truth: NDArray[Any], prediction: NDArray[Any]) -> RegressionSums:
        """The sums of these rows. InvalidArgument when lengths differ or a value is not finite."""
        absolute = absolute_errors(truth, prediction)
        error = np.asarray(truth, float) - np.asarray(prediction, float)
        return cls(len(error), fixed_sum(error), fixed_sum(absolute), fixed_sum(error * error))

    def merged(self, other: RegressionSums) -> RegressionSums:
        """Both together."""
        return RegressionSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def minus(self, other: RegressionSums) -> RegressionSums:
        """What is left without the other: how a correction takes a first value out again."""
        return RegressionSums(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    @property
    def mean_residual(self) -> float:
        """Mean of truth - prediction; NaN without rows."""
        return self.error / UNIT / self.count if self.count else float("nan")

    @property
    def mean_loss(self) -> float:
        """Mean absolute error; NaN without rows."""
        return self.absolute / UNIT / self.count if self.count else float("nan")

    def figures(self) -> dict[str, float]:
        """mae, rmse and bias (prediction - truth, so that + is too high); empty without rows.

        >>> import numpy as np
        >>> RegressionSums.of(np.array([1.0, 2.0]), np.array([2.0, 5.0])).figures()["mae"]
        2.0
        """
        if not self.count:
            return {}
        squared = self.squared / UNIT / self.count
        return {"mae": self.mean_loss, "rmse": max(squared, 0.0) ** 0.5, "bias": -self.mean_residual}

    def to_json(self) -> dict[str, Any]:
        """Plain values; sums as texts, since they outgrow the numbers of JSON readers."""
        return {"count": self.count, **{f.name: str(getattr(self, f.name)) for f in fields(self)[1:]}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RegressionSums:
        """The sums of these plain values."""
        return cls(**{f.name: int(values[f.name]) for f in fields(cls)})


@dataclass(frozen=True)
class PairedSums:
    """Losses of champion and challenger on the same rows, in units of 2**-40."""

    count: int = 0
    champion: int = 0
    challenger: int = 0
    squared_difference: int = 0

    @classmethod
    def of(cls, champion: NDArray[Any], challenger: NDArray[Any]) -> PairedSums:
        """The sums of these rows' losses. InvalidArgument when lengths differ or a loss is not finite."""
        if len(champion) != len(challenger):
            raise InvalidArgument(f"{len(champion)} losses do not pair with {len(challenger)}")
        gap = np.asarray(challenger, float) - np.asarray(champion, float)
        return cls(len(gap), fixed_sum(champion), fixed_sum(challenger), fixed_sum(gap * gap))

    def merged(self, other: PairedSums) -> PairedSums:
        """Both together."""
        return PairedSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def minus(self, other: PairedSums) -> PairedSums:
        """What is left without the other: how a correction takes a first value out again."""
        return PairedSums(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def to_json(self) -> dict[str, Any]:
        """Plain values; sums as texts, since they outgrow the numbers of JSON readers."""
        return {"count": self.count, **{f.name: str(getattr(self, f.name)) for f in fields(self)[1:]}}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PairedSums:
        """The sums of these plain values."""
        return cls(**{f.name: int(values[f.name]) for f in fields(cls)})
