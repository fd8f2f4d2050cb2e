"""How good were these classifications? Counts and log-loss that add up exactly, and the figures made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.stats.losses import SCORE_BINS, UNIT, fixed_sum, label_places, log_losses


@dataclass(frozen=True)
class ClassificationSums:
    """Truths against answers (``confusion[truth, answer]``), log-loss in units of 2**-40, and for each class a histogram of
    its score over rows that are it and rows that are not (``scores[class, is it, bin]``), which AUC is made of.
    """

    classes: tuple[str, ...]
    log_loss: int
    confusion: NDArray[np.int64]
    scores: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: Sequence[str]) -> ClassificationSums:
        """The sums of no rows."""
        size = len(classes)
        return cls(tuple(classes), 0, np.zeros((size, size), np.int64), np.zeros((size, 2, SCORE_BINS), np.int64))

    @classmethod
    def of(
        cls, labels: Sequence[str] | NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]
    ) -> ClassificationSums:
        """The sums of these rows; the answer is the class of greatest probability (the first of equals)."""
        loss = fixed_sum(log_losses(labels, probabilities, classes))
        truth, size = label_places(labels, classes), len(classes)
        given = np.asarray(probabilities, float)
        given = given / given.sum(axis=1, keepdims=True)
        confusion = np.bincount(truth * size + given.argmax(axis=1), minlength=size * size).reshape(size, size)
        bins = np.minimum((given * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
        is_it = (truth[:, None] == np.arange(size)).astype(np.int64)
        flat = (np.arange(size) * 2 + is_it) * SCORE_BINS + bins
        scores = np.bincount(flat.ravel(), minlength=size * 2 * SCORE_BINS).reshape(size, 2, SCORE_BINS)
        return cls(tuple(classes), loss, confusion.astype(np.int64), scores.astype(np.int64))

    def merged(self, other: ClassificationSums) -> ClassificationSums:
        """Both together. InvalidArgument when their classes differ."""
        if self.classes != other.classes:
            raise InvalidArgument(f"sums over classes {self.classes} and {other.classes} do not add up")
        return ClassificationSums(
            self.classes, self.log_loss + other.log_loss, self.confusion + other.confusion, self.scores + other.scores
        )

    def minus(self, other: ClassificationSums) -> ClassificationSums:
        """What is left without the other: how a correction takes a first value out. InvalidArgument when their classes differ."""
        taken = ClassificationSums(other.classes, -other.log_loss, -other.confusion, -other.scores)
        return self.merged(taken)

    @property
    def count(self) -> int:
        """How many rows."""
        return int(self.confusion.sum())

    @property
    def mean_loss(self) -> float:
        """Mean log-loss in nats; NaN without rows."""
        return self.log_loss / UNIT / self.count if self.count else float("nan")

    @property
    def mean_residual(self) -> float:
        """Classifications have no signed residual: 0."""
        return 0.0

    def figures(self) -> dict[str, float]:
        """log_loss, accuracy, precision, recall, f1 and auc; empty without rows.

        Of two classes the second is the positive one; of more, figures are means over the classes that occur. Precision, recall
        and F1 are 0 where undefined; AUC, exact to ties within 1/200 of score, is left out where a class has no counterpart.
        """
        if not self.count:
            return {}
        hit = np.diag(self.confusion).astype(float)
        truths, answers = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        precision, recall = hit / np.maximum(answers, 1), hit / np.maximum(truths, 1)
        f1 = 2 * hit / np.maximum(truths + answers, 1)
        chosen = np.array([1]) if len(self.classes) == 2 else np.flatnonzero(truths + answers > 0)
        result = {
            "log_loss": self.mean_loss,
            "accuracy": float(hit.sum() / self.count),
            "precision": float(precision[chosen].mean()),
            "recall": float(recall[chosen].mean()),
            "f1": float(f1[chosen].mean()),
        }
        areas = [area for place in chosen if (area := self._area(int(place))) is not None]
        return {**result, "auc": float(np.mean(areas))} if areas else result

    def _area(self, place: int) -> float | None:
        """Share of pairs (a row that is the class, one that is not) that the score puts right, ties by half."""
        others, its = self.scores[place].astype(float)
        if not others.sum() or not its.sum():
            return None
        below = np.cumsum(others) - others
        return float((its * (below + others / 2)).sum() / its.sum() / others.sum())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        places = np.flatnonzero(self.scores)
        return {
            "classes": list(self.classes),
            "log_loss": str(self.log_loss),
            "confusion": self.confusion.tolist(),
            "score_bins": places.tolist(),
            "scores": self.scores.ravel()[places].tolist(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ClassificationSums:
        """The sums of these plain values."""
        empty = cls.empty(values["classes"])
        scores = empty.scores.ravel()
        scores[values["score_bins"]] = values["scores"]
        confusion = np.array(values["confusion"], np.int64).reshape(empty.confusion.shape)
        return cls(empty.classes, int(values["log_loss"]), confusion, scores.reshape(empty.scores.shape))
