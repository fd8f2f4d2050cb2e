"""How does a model somebody trained with their own code become a package?

>>> from sklearn.ensemble import HistGradientBoostingRegressor  # doctest: +SKIP
>>> package = package_model(model, training_rows, hold_out=other_rows, task=Task.REGRESSION)  # doctest: +SKIP
>>> package.write(Path("eta"))  # doctest: +SKIP

LightGBM and scikit-learn's HistGradientBoosting go through our own exact export, everything else of scikit-learn through
skl2onnx. Whatever the way, all rows given are replayed through both models and a difference refuses the export.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.frames import Table
from perennial.package.artifact import ModelPackage
from perennial.package.manifest import MODEL, Manifest
from perennial.package.predictor import Predictor
from perennial.package.replay import replayed
from perennial.package.signature import Column, ColumnType, Signature, Task

USER_TOLERANCE = 1e-4
_PLAIN = {"regression", "regression_l1", "huber", "fair", "quantile", "mape", "binary sigmoid:1"}


def package_model(
    model: Any,
    training: Table,
    *,
    task: Task | str,
    hold_out: Table | None = None,
    algorithm: str = "",
    parameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    files: Mapping[str, bytes] | None = None,
    signature: Signature | None = None,
    tolerance: float = USER_TOLERANCE,
) -> ModelPackage:
    """The package of a fitted scikit-learn or LightGBM model.

    ``training`` and ``hold_out`` are input rows only. A model of nothing but numbers was fitted on them in the table's order;
    one with texts on a pandas DataFrame of these column names. InvalidArgument when the model cannot be exported,
    FailedPrecondition when the exported graph answers any of the rows differently.
    """
    task = Task(task)
    signature = signature or signature_of(training, task, classes=_classes(model) if task is Task.CLASSIFICATION else ())
    tables = [signature.check(t) for t in (training, hold_out) if t is not None]
    rows = Table.concat(tables)
    graph = _graph(model, signature)
    framework = type(model).__module__.split(".")[0].replace("sklearn", "scikit-learn")
    manifest = Manifest(
        framework, algorithm or type(model).__name__, signature, parameters=dict(parameters or {}), metrics=dict(metrics or {})
    )
    check = replayed(_native(model, rows, signature), Predictor(manifest, graph).run(rows), tolerance=tolerance)
    return ModelPackage.of(replace(manifest, export_check=check), {MODEL: graph, **(files or {})})


def signature_of(rows: Table, task: Task, classes: tuple[str, ...] = ()) -> Signature:
    """The signature of rows like these: a column accepts nulls if it holds any."""
    columns = [
        Column(name, ColumnType.NUMBER, bool(np.isnan(rows.numbers[:, place]).any()))
        for place, name in enumerate(rows.number_names)
    ]
    columns += [Column(name, ColumnType.TEXT, bool((text.codes < 0).any())) for name, text in rows.texts.items()]
    return Signature.of(columns, task, classes)


def _classes(model: Any) -> tuple[str, ...]:
    if not hasattr(model, "classes_"):
        raise InvalidArgument(f"{type(model).__name__} has no classes_; a classification needs a fitted classifier")
    return tuple(str(name) for name in model.classes_)


def _graph(model: Any, signature: Signature) -> bytes:
    from perennial.package.graph import GraphBuilder
    from perennial.package.predictor import NUMBERS, PREDICTION

    trees = None if signature.text_names else _trees(model, len(signature.classes))
    if trees is None:
        from perennial.package.sklearn_graph import convert

        return convert(model, signature)
    graph = GraphBuilder()
    margins = trees.margins(graph, NUMBERS)
    if signature.task is Task.REGRESSION:
        graph.add("Identity", margins, output=PREDICTION)
    else:
        graph.probabilities_of(margins, len(signature.classes))
    return graph.finished(signature)


def _trees(model: Any, classes: int) -> Any:
    """The model's trees when they can be exported as they are, else None."""
    from perennial.package import trees

    kind = type(model).__name__
    if kind in {"LGBMRegressor", "LGBMClassifier"} and _is_plain(model):
        return trees.of_lightgbm(model.booster_, classes if classes > 2 else 1)
    if kind == "HistGradientBoostingRegressor" and model.loss in {"squared_error", "absolute_error", "quantile"}:
        return trees.of_histogram_boosting(model._predictors, model._baseline_prediction)  # noqa: SLF001 no public access
    if kind == "HistGradientBoostingClassifier":
        return trees.of_histogram_boosting(model._predictors, model._baseline_prediction)  # noqa: SLF001
    if kind.startswith("LGBM"):
        raise InvalidArgument(f"{kind} with objective {model.objective_!r} cannot be exported; regression and classification can")
    return None


def _is_plain(model: Any) -> bool:
    """Whether the outputs are the sum of the leaves, or the usual link of it."""
    objective = str(model.booster_.dump_model(num_iteration=1).get("objective", ""))
    several = objective.startswith("multiclass ")
    return (several or objective in _PLAIN) and model.boosting_type != "rf"


def _native(model: Any, rows: Table, signature: Signature) -> NDArray[np.float64]:
    """The model's own answer to rows rounded to 32 bits, as the graph sees them."""
    numbers = rows.numbers.astype(np.float32)
    inputs: Any = numbers
    if signature.text_names:
        import pandas as pd  # type: ignore[import-untyped] # only with a model that takes a DataFrame

        columns: dict[str, Any] = {name: numbers[:, i] for i, name in enumerate(signature.number_names)}
        columns |= {name: rows.texts[name].decoded() for name in signature.text_names}
        inputs = pd.DataFrame({c.name: columns[c.name] for c in signature.columns})
    answer = model.predict(inputs) if signature.task is Task.REGRESSION else model.predict_proba(inputs)
    return np.asarray(answer, dtype=np.float64)
