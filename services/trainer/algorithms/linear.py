"""Ridge and logistic regression over standardised columns.

Numbers: nulls become the column's mean, then (x - mean) / scale. Texts: one column a text seen in training; null and
unknown texts have none of them set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from perennial.frames import Table
from perennial.package.graph import ML, GraphBuilder
from perennial.package.predictor import NUMBERS, PREDICTION
from perennial.package.signature import Signature
from perennial.package.trees import NO_CHANCE

from services.trainer.algorithms.base import (
    Algorithm,
    Fitted,
    Floats,
    Hyperparameter,
    Labels,
    Problem,
    shares,
)
from services.trainer.algorithms.constant import Constant
from services.trainer.algorithms.ordinal import encoded, seen

_BINARY = 2


class Linear(Algorithm):
    """Ridge (regression) or logistic regression (classification)."""

    name: ClassVar[str] = "linear"
    framework: ClassVar[str] = "scikit-learn"
    description: ClassVar[str] = "Ridge or logistic regression; standardises numbers, fills nulls with the mean, one-hot texts"
    needs: ClassVar[tuple[tuple[str, str], ...]] = (("sklearn", "perennial-mlops[trainer] (scikit-learn)"),)
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {
        "l2": Hyperparameter(1.0, 1e-9, 1e9),
        "iterations": Hyperparameter(500, 1, 100_000),
    }

    def fit(self, rows: Table, labels: Labels, problem: Problem) -> Fitted:
        """See :class:`Algorithm`."""
        from sklearn.linear_model import LogisticRegression, Ridge

        present = np.unique(labels)
        if not problem.regression and len(present) == 1:
            return Constant(problem.signature, int(present[0]))
        design = _Design.of(rows, problem.signature)
        matrix = design.matrix(rows)
        if problem.regression:
            ridge = Ridge(alpha=problem.parameters["l2"]).fit(matrix, labels)
            return _Fitted(design, ridge.coef_.reshape(1, -1), np.array([float(ridge.intercept_)]), problem)
        model = LogisticRegression(C=1.0 / problem.parameters["l2"], max_iter=problem.parameters["iterations"])
        model.fit(matrix, labels)
        weights, bias = _spread(model, [int(c) for c in present], problem.classes)
        return _Fitted(design, weights, bias, problem)


def _spread(model: Any, present: list[int], classes: int) -> tuple[Floats, Floats]:
    """One row of weights a margin: one for two classes, else one a class; a class not seen has no chance."""
    if classes == _BINARY:
        return model.coef_, model.intercept_
    weights = np.zeros((classes, model.coef_.shape[1]))
    bias = np.full(classes, NO_CHANCE)
    if len(present) == _BINARY:
        bias[present[0]] = 0.0
        weights[present[1]], bias[present[1]] = model.coef_[0], model.intercept_[0]
    else:
        weights[present], bias[present] = model.coef_, model.intercept_
    return weights, bias


@dataclass(frozen=True)
class _Design:
    """How rows become the matrix of the linear model."""

    signature: Signature
    mean: Floats
    scale: Floats
    vocabularies: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rows: Table, signature: Signature) -> _Design:
        numbers = rows.numbers.astype(np.float32).astype(np.float64).reshape(rows.rows, -1)
        known = ~np.isnan(numbers)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, numbers, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, numbers - mean, 0.0) ** 2).sum(axis=0) / count)
        scale = np.where(spread > 1e-9 * np.maximum(np.abs(mean), 1e-30), spread, 1.0)
        words = tuple(seen(rows.texts[name]) for name in signature.text_names)
        return cls(signature, mean.astype(np.float32).astype(np.float64), scale.astype(np.float32).astype(np.float64), words)

    @property
    def owners(self) -> list[str]:
        """The signature's column behind each column of the matrix."""
        names = list(self.signature.number_names)
        for name, words in zip(self.signature.text_names, self.vocabularies, strict=True):
            names += [name] * len(words)
        return names

    def matrix(self, rows: Table) -> Floats:
        """Rows as the model sees them."""
        numbers = rows.numbers.astype(np.float32).astype(np.float64).reshape(rows.rows, -1)
        standard = np.where(np.isnan(numbers), 0.0, (numbers - self.mean) / self.scale)
        parts = [standard]
        for name, words in zip(self.signature.text_names, self.vocabularies, strict=True):
            codes = encoded(rows.texts[name], words)
            parts.append((codes[:, None] == np.arange(len(words))).astype(np.float64))
        return np.column_stack(parts)

    def features(self, graph: GraphBuilder) -> str:
        """The same matrix inside a graph."""
        parts = []
        if self.signature.number_names:
            filled = graph.add("Where", graph.add("IsNaN", NUMBERS), graph.floats(self.mean[None, :]), NUMBERS)
            centred = graph.add("Sub", filled, graph.floats(self.mean))
            parts.append(graph.add("Div", centred, graph.floats(self.scale)))
        for place, words in enumerate(self.vocabularies):
            hot = graph.add("OneHotEncoder", graph.text_column(place), domain=ML, cats_strings=list(words) or [""], zeros=1)
            flat = graph.constant(np.array([-1, max(len(words), 1)], dtype=np.int64))
            parts.append(graph.add("Reshape", hot, flat))
        return graph.side_by_side(parts)

    def padded(self, weights: Floats) -> Floats:
        """The weights of the graph's matrix, where a text column without texts still has one column, of weight 0."""
        parts = [weights[:, : len(self.signature.number_names)]]
        at = len(self.signature.number_names)
        for words in self.vocabularies:
            parts.append(weights[:, at : at + len(words)] if words else np.zeros((len(weights), 1)))
            at += len(words)
        return np.column_stack(parts)


@dataclass(frozen=True)
class _Fitted(Fitted):
    design: _Design
    weights: Floats
    bias: Floats
    problem: Problem

    def predict(self, rows: Table) -> Floats:
        """See :class:`Fitted`."""
        margins: Floats = self.design.matrix(rows) @ self.weights.T + self.bias
        if self.problem.regression:
            return margins
        if self.problem.classes == _BINARY:
            margins = np.column_stack([np.zeros(rows.rows), margins])
        powers = np.exp(margins - margins.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def graph(self) -> bytes:
        """See :class:`Fitted`."""
        graph = GraphBuilder()
        features = self.design.features(graph)
        weights = graph.floats(self.design.padded(self.weights))
        output = PREDICTION if self.problem.regression else ""
        margins = graph.add("Gemm", features, weights, graph.floats(self.bias), transB=1, output=output)
        if not self.problem.regression:
            graph.probabilities_of(margins, self.problem.classes)
        return graph.finished(self.problem.signature)

    def importances(self) -> dict[str, float]:
        """Share of the absolute weights of standardised columns."""
        names = [column.name for column in self.problem.signature.columns]
        sums = dict.fromkeys(names, 0.0)
        for name, weight in zip(self.design.owners, np.abs(self.weights).sum(axis=0), strict=True):
            sums[name] += float(weight)
        return shares(names, np.array([sums[name] for name in names]))
