"""How wrong was a model out of sample, and how much does that differ between days? The error profile of a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.stats.losses import log_losses, matrix_of
from perennial.stats.rows import Rows

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class ErrorProfile:
    """Out-of-sample errors by block (a day): how many, mean signed residual, mean loss.

    The loss is the absolute error of a regression, the log-loss of a classification. ``block_means`` is what the residual
    chart is given for each block: the mean signed residual (truth - prediction), or mean log-loss less its mean over all.
    """

    task: Literal["regression", "classification"]
    starts_us: tuple[int, ...]
    counts: tuple[int, ...]
    residuals: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def mean_loss(self) -> float:
        """Mean loss of a row."""
        return float(np.average(self.losses, weights=self.counts)) if self.counts else float("nan")

    @property
    def block_means(self) -> tuple[float, ...]:
        """One number a block for the residual chart, oldest first."""
        if self.task == "regression":
            return self.residuals
        centre = self.mean_loss
        return tuple(loss - centre for loss in self.losses)

    @property
    def day_spread(self) -> float:
        """Spread between blocks of the mean loss, as a share of it: an upper mark for the spread of a paired gain."""
        if len(self.losses) < 2 or not self.mean_loss:
            return float("nan")
        return float(np.std(self.losses, ddof=1) / self.mean_loss)

    def chart_value(self, mean_residual: float, mean_loss: float) -> float:
        """What the chart is given for a live block of these means."""
        return mean_residual if self.task == "regression" else mean_loss - self.mean_loss

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "task": self.task,
            "starts_us": list(self.starts_us),
            "counts": list(self.counts),
            "residuals": list(self.residuals),
            "losses": list(self.losses),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ErrorProfile:
        """The profile of these plain values."""
        return cls(
            values["task"],
            tuple(map(int, values["starts_us"])),
            tuple(map(int, values["counts"])),
            tuple(map(float, values["residuals"])),
            tuple(map(float, values["losses"])),
        )


def regression_errors(
    truth: NDArray[Any], prediction: NDArray[Any], times_us: NDArray[np.int64], *, block_us: int = DAY_US, offset_us: int = 0
) -> ErrorProfile:
    """The error profile of out-of-sample predictions; ``offset_us`` shifts where blocks begin (a zone's distance from UTC).

    InvalidArgument when lengths differ, nothing is given or a value is not finite.

    >>> import numpy as np
    >>> p = regression_errors(np.array([1.0, 3.0]), np.array([0.0, 5.0]), np.array([0, DAY_US]))
    >>> p.residuals, p.mean_loss
    ((1.0, -2.0), 1.5)
    """
    truth, prediction = np.asarray(truth, float), np.asarray(prediction, float)
    if truth.shape != prediction.shape:
        raise InvalidArgument(f"{len(truth)} truths do not fit {len(prediction)} predictions")
    residual = truth - prediction
    return _profile("regression", residual, np.abs(residual), times_us, (block_us, offset_us))


def classification_errors(
    labels: Sequence[str] | NDArray[Any],
    outputs: Rows,
    classes: Sequence[str],
    times_us: NDArray[np.int64],
    *,
    block_us: int = DAY_US,
    offset_us: int = 0,
) -> ErrorProfile:
    """The error profile of out-of-sample outputs (columns ``p:<class>``). InvalidArgument as for regressions, and when a
    label is no class or a class has no column.
    """
    loss = log_losses(labels, matrix_of(outputs, classes), classes)
    return _profile("classification", np.zeros_like(loss), loss, times_us, (block_us, offset_us))


def _profile(
    task: Literal["regression", "classification"],
    residual: NDArray[np.float64],
    loss: NDArray[np.float64],
    times_us: NDArray[np.int64],
    blocks: tuple[int, int],
) -> ErrorProfile:
    if not len(loss) or len(times_us) != len(loss):
        raise InvalidArgument(f"{len(loss)} errors and {len(times_us)} times make no error profile")
    if not (np.isfinite(residual).all() and np.isfinite(loss).all()):
        raise InvalidArgument("an error profile needs finite truths and predictions")
    length, offset = blocks
    block, place, count = np.unique((np.asarray(times_us, np.int64) + offset) // length, return_inverse=True, return_counts=True)
    return ErrorProfile(
        task,
        tuple((block * length - offset).tolist()),
        tuple(count.tolist()),
        tuple((np.bincount(place, residual) / count).tolist()),
        tuple((np.bincount(place, loss) / count).tolist()),
    )
