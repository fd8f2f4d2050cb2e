"""What does an algorithm promise?

``fit`` learns from checked rows whose numbers were rounded to 32 bits; what it gives back answers rows itself (for the
replay) and exports itself into one ONNX graph over the raw columns. The same rows and seed always give the same bytes.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from perennial.errors import InvalidArgument
from perennial.frames import Table
from perennial.package import Signature, Task

Floats = NDArray[np.float64]
Labels = NDArray[Any]
"""float64 (regression) or int32 indexes of the signature's classes (classification)."""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One setting of an algorithm: its default, and what may be given instead."""

    default: float | int | str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def checked(self, name: str, value: Any) -> float | int | str:
        """The value in the default's type; InvalidArgument when it is none or out of range."""
        if isinstance(self.default, str):
            if value not in self.choices:
                raise InvalidArgument(f"hyperparameter {name}: {value!r} is none of {', '.join(self.choices)}")
            return str(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InvalidArgument(f"hyperparameter {name}: {value!r} is not a number")
        if isinstance(self.default, int) and value != int(value):
            raise InvalidArgument(f"hyperparameter {name}: {value!r} is not a whole number")
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise InvalidArgument(f"hyperparameter {name}: {value!r} is not in {self.low:g} … {self.high:g}")
        return type(self.default)(value)


@dataclass(frozen=True)
class Problem:
    """What is to be learnt: columns, task and classes; with every hyperparameter, a seed and the threads to use."""

    signature: Signature
    parameters: Mapping[str, Any]
    seed: int = 0
    threads: int = 1

    @property
    def regression(self) -> bool:
        """Whether a number is predicted."""
        return self.signature.task is Task.REGRESSION

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.signature.classes)


class Fitted(ABC):
    """A trained model."""

    @abstractmethod
    def predict(self, rows: Table) -> Floats:
        """Its own outputs: rows x 1, or rows x classes."""

    @abstractmethod
    def graph(self) -> bytes:
        """The ONNX model over the raw columns."""

    @abstractmethod
    def importances(self) -> dict[str, float]:
        """Share of every column in what was learnt; the shares sum to 1 (or all are 0)."""


class Algorithm(ABC):
    """A way to learn."""

    name: ClassVar[str]
    framework: ClassVar[str]
    description: ClassVar[str]
    needs: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(module, what to install) it cannot do without."""
    tasks: ClassVar[tuple[Task, ...]] = (Task.REGRESSION, Task.CLASSIFICATION)
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]]

    @abstractmethod
    def fit(self, rows: Table, labels: Labels, problem: Problem) -> Fitted:
        """The model of these rows, in signature order; every class index is below ``problem.classes``."""

    @classmethod
    def missing(cls) -> str:
        """What to install before this algorithm can be used here; empty when nothing."""
        return ", ".join(install for module, install in cls.needs if importlib.util.find_spec(module) is None)

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every hyperparameter, defaults filled in; InvalidArgument names one that is unknown or cannot be."""
        if unknown := sorted(set(given) - set(cls.hyperparameters)):
            raise InvalidArgument(
                f"{cls.name} has no hyperparameter {', '.join(unknown)}; it has {', '.join(sorted(cls.hyperparameters))}"
            )
        return {name: h.checked(name, given.get(name, h.default)) for name, h in cls.hyperparameters.items()}


def shares(names: Sequence[str], weights: Floats) -> dict[str, float]:
    """The weights as shares of their sum, by name."""
    total = float(weights.sum())
    return {name: float(w) / total if total > 0 else 0.0 for name, w in zip(names, weights, strict=True)}


def widened(probabilities: Floats, present: NDArray[np.integer[Any]], classes: int) -> Floats:
    """Probabilities of all classes from those of the classes seen in training."""
    if probabilities.shape[1] == classes:
        return probabilities
    wide = np.zeros((len(probabilities), classes))
    wide[:, present] = probabilities
    return wide
