"""Gradient boosting by LightGBM (Ke et al. 2017), on one thread and deterministic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from perennial.frames import Table
from perennial.package import Task, trees
from perennial.package.graph import GraphBuilder
from perennial.package.predictor import PREDICTION

from services.trainer.algorithms.base import Algorithm, Fitted, Floats, Hyperparameter, Labels, Problem, shares
from services.trainer.algorithms.ordinal import OrdinalEncoding

_OBJECTIVES = ("l1", "l2", "huber")
_BINARY = 2


class LightGbm(Algorithm):
    """Histogram gradient boosting, leaf by leaf; nulls and texts as they are."""

    name: ClassVar[str] = "lightgbm"
    framework: ClassVar[str] = "lightgbm"
    description: ClassVar[str] = "Gradient-boosted trees by LightGBM; takes nulls and texts as they are"
    needs: ClassVar[tuple[tuple[str, str], ...]] = (("lightgbm", "perennial-mlops[trainer] (lightgbm)"),)
    hyperparameters: ClassVar[Mapping[str, Hyperparameter]] = {
        "objective": Hyperparameter("l1", choices=_OBJECTIVES),
        "rounds": Hyperparameter(200, 1, 10_000),
        "learning_rate": Hyperparameter(0.1, 1e-4, 1.0),
        "leaves": Hyperparameter(31, 2, 1024),
        "min_rows_in_leaf": Hyperparameter(20, 1, 1_000_000),
        "columns_per_tree": Hyperparameter(1.0, 0.01, 1.0),
        "rows_per_tree": Hyperparameter(1.0, 0.01, 1.0),
        "l2": Hyperparameter(0.0, 0.0, 1e6),
    }

    def fit(self, rows: Table, labels: Labels, problem: Problem) -> Fitted:
        """See :class:`Algorithm`."""
        import lightgbm

        encoding = OrdinalEncoding.of(rows, problem.signature)
        data = lightgbm.Dataset(encoding.matrix(rows), label=np.asarray(labels, dtype=np.float64), free_raw_data=True)
        booster = lightgbm.train(_settings(problem), data, num_boost_round=problem.parameters["rounds"])
        return _Fitted(encoding, booster, problem)


def _settings(problem: Problem) -> dict[str, Any]:
    given = problem.parameters
    objective: dict[str, Any] = {"objective": {"l1": "regression_l1", "l2": "regression", "huber": "huber"}[given["objective"]]}
    if not problem.regression:
        several = problem.classes > _BINARY
        objective = {"objective": "multiclass", "num_class": problem.classes} if several else {"objective": "binary"}
    return {
        **objective,
        "learning_rate": given["learning_rate"], "num_leaves": given["leaves"],
        "min_data_in_leaf": given["min_rows_in_leaf"], "feature_fraction": given["columns_per_tree"],
        "bagging_fraction": given["rows_per_tree"], "bagging_freq": int(given["rows_per_tree"] < 1.0), "lambda_l2": given["l2"],
        "seed": problem.seed % 2**31, "deterministic": True, "force_col_wise": True,
        "num_threads": problem.threads, "verbose": -1,
    }  # fmt: skip


@dataclass(frozen=True)
class _Fitted(Fitted):
    encoding: OrdinalEncoding
    booster: Any
    problem: Problem

    def predict(self, rows: Table) -> Floats:
        """See :class:`Fitted`."""
        answer = np.asarray(self.booster.predict(self.encoding.matrix(rows), num_threads=self.problem.threads))
        if self.problem.signature.task is Task.CLASSIFICATION and self.problem.classes == _BINARY:
            return np.column_stack([1.0 - answer, answer])
        return answer.reshape(rows.rows, -1)

    def graph(self) -> bytes:
        """See :class:`Fitted`."""
        graph = GraphBuilder()
        targets = self.problem.classes if self.problem.classes > _BINARY else 1
        margins = trees.of_lightgbm(self.booster, targets).margins(graph, self.encoding.features(graph))
        if self.problem.regression:
            graph.add("Identity", margins, output=PREDICTION)
        else:
            graph.probabilities_of(margins, self.problem.classes)
        return graph.finished(self.problem.signature)

    def importances(self) -> dict[str, float]:
        """Share of the loss that splits on the column took away."""
        return shares(self.encoding.names, np.asarray(self.booster.feature_importance("gain"), dtype=np.float64))
