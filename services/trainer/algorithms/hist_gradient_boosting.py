"""Gradient boosting by scikit-learn's HistGradientBoosting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from perennial.frames import Table
from perennial.package import trees
from perennial.package.graph import GraphBuilder
from perennial.package.predictor import PREDICTION

from services.trainer.algorithms.base import Algorithm, Fitted, Floats, Hyperparameter, Labels, Problem, shares, widened
from services.trainer.algorithms.constant import Constant
from services.trainer.algorithms.ordinal import OrdinalEncoding


class HistGradientBoosting(Algorithm):
    """Histogram gradient boosting of scikit-learn; nulls and texts as they are."""

    name: ClassVar[str] = "hist_gradient_boosting"
    framework: ClassVar[str] = "scikit-learn"
    description: ClassVar[str] = "Gradient-boosted trees by scikit-learn; takes nulls and texts as they are"
    needs: ClassVar[tuple[tuple[str, str], ...]] = (("sklearn", "perennial-mlops[trainer] (scikit-learn)"),)
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {
        "loss": Hyperparameter("absolute_error", choices=("absolute_error", "squared_error")),
        "rounds": Hyperparameter(200, 1, 10_000),
        "learning_rate": Hyperparameter(0.1, 1e-4, 1.0),
        "leaves": Hyperparameter(31, 2, 1024),
        "min_rows_in_leaf": Hyperparameter(20, 1, 1_000_000),
        "l2": Hyperparameter(0.0, 0.0, 1e6),
    }

    def fit(self, rows: Table, labels: Labels, problem: Problem) -> Fitted:
        """See :class:`Algorithm`."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        present = np.unique(labels)
        if not problem.regression and len(present) == 1:
            return Constant(problem.signature, int(present[0]))
        encoding = OrdinalEncoding.of(rows, problem.signature)
        given = problem.parameters
        settings: dict[str, Any] = {
            "max_iter": given["rounds"], "learning_rate": given["learning_rate"], "max_leaf_nodes": given["leaves"],
            "min_samples_leaf": given["min_rows_in_leaf"], "l2_regularization": given["l2"],
            "early_stopping": False, "random_state": problem.seed % 2**32,
        }  # fmt: skip
        if problem.regression:
            estimator: Any = HistGradientBoostingRegressor(loss=given["loss"], **settings)
        else:
            estimator = HistGradientBoostingClassifier(**settings)
        matrix = encoding.matrix(rows)
        matrix[:, np.isnan(matrix).all(axis=0)] = 0.0  # it cannot bin a column of nulls; a constant is never split
        estimator.fit(matrix, labels)
        return _Fitted(encoding, estimator, problem, present)


@dataclass(frozen=True)
class _Fitted(Fitted):
    encoding: OrdinalEncoding
    estimator: Any
    problem: Problem
    present: NDArray[Any]

    def predict(self, rows: Table) -> Floats:
        """See :class:`Fitted`."""
        matrix = self.encoding.matrix(rows)
        if self.problem.regression:
            return np.asarray(self.estimator.predict(matrix), dtype=np.float64).reshape(-1, 1)
        probabilities: Floats = np.asarray(self.estimator.predict_proba(matrix), dtype=np.float64)
        return widened(probabilities, self.present, self.problem.classes)

    def graph(self) -> bytes:
        """See :class:`Fitted`."""
        graph = GraphBuilder()
        fitted = self.estimator
        ensemble = trees.of_histogram_boosting(fitted._predictors, fitted._baseline_prediction)  # noqa: SLF001 no public access
        margins = ensemble.margins(graph, self.encoding.features(graph))
        if self.problem.regression:
            graph.add("Identity", margins, output=PREDICTION)
        else:
            present = [int(c) for c in self.present]
            graph.probabilities_of(trees.class_margins(graph, margins, present, self.problem.classes), self.problem.classes)
        return graph.finished(self.problem.signature)

    def importances(self) -> dict[str, float]:
        """Share of the loss that splits on the column took away."""
        gains = np.zeros(len(self.encoding.names))
        for round_ in self.estimator._predictors:  # noqa: SLF001
            for tree in round_:
                splits = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gains, splits["feature_idx"], splits["gain"])
        return shares(self.encoding.names, gains)
