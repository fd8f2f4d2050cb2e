"""A model somebody brings answers the same after its export, or is not exported."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from perennial.errors import FailedPrecondition, InvalidArgument
from perennial.frames import Table
from perennial.package import Column, ColumnType, Signature, Task, load, open_package, package_model
from perennial.package.trees import floor32
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.package.models import rows

REGRESSORS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMRegressor(n_estimators=40, n_jobs=1, verbose=-1),
    "lightgbm_l1": lambda: lightgbm.LGBMRegressor(n_estimators=40, n_jobs=1, verbose=-1, objective="l1"),
    "histogram": lambda: HistGradientBoostingRegressor(max_iter=40),
    "histogram_l1": lambda: HistGradientBoostingRegressor(max_iter=40, loss="absolute_error"),
    "pipeline": lambda: make_pipeline(SimpleImputer(), StandardScaler(), RandomForestRegressor(10, random_state=0)),
}
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1),
    "histogram": lambda: HistGradientBoostingClassifier(max_iter=20),
    "pipeline": lambda: make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_answers_the_same_through_its_package(name: str, tmp_path: Path) -> None:
    """Training rows and fresh rows, written to disk and loaded again, equal the model's own predictions."""
    table, truth = rows()
    fresh, _ = rows(200, seed=1, nulls=0.3)
    model: Any = REGRESSORS[name]().fit(table.numbers, truth)
    package_model(model, table, hold_out=fresh, task="regression", signature=any_nulls(table)).write(tmp_path / "m")
    predictor = load(tmp_path / "m")
    answer = predictor.predict(fresh).column("prediction")
    assert np.allclose(answer, model.predict(fresh.numbers), rtol=0, atol=1e-4 * max(1, np.abs(truth).max()))
    assert predictor.manifest.export_check is not None
    assert predictor.manifest.export_check.rows == 600


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_answers_the_same_through_its_package(name: str, classes: int) -> None:
    """Probabilities equal the model's, and the label is the likeliest class."""
    table, truth = rows()
    labels = np.array(["low", "mid", "top"])[np.digitize(truth, [0.5, 3.0] if classes == 3 else [0.5])]
    model: Any = CLASSIFIERS[name]().fit(table.numbers, labels)
    answer = open_package(package_model(model, table, task="classification")).predict(table)
    expected = model.predict_proba(table.numbers)
    assert np.allclose(np.column_stack([answer.column(f"p:{c}") for c in model.classes_]), expected, atol=1e-5)
    assert (answer.column("label") == model.predict(table.numbers)).mean() > 0.99


def any_nulls(table: Table) -> Signature:
    """The signature of these numbers, nulls accepted."""
    return Signature.of([Column(name, ColumnType.NUMBER) for name in table.number_names])


def test_a_pipeline_over_texts_takes_the_raw_columns() -> None:
    """Preprocessing is inside the graph: the package is asked with numbers and texts as they are."""
    pd = pytest.importorskip("pandas")
    table, truth = rows(nulls=0)
    place = np.where(truth > 1, "north", "south")
    data = pd.DataFrame({"a": table.column("a"), "place": place.astype(object)})
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["place"]), (StandardScaler(), ["a"]))
    model = make_pipeline(encoder, LogisticRegression()).fit(data, truth > 0)
    package = package_model(model, Table.of({"a": table.column("a"), "place": place.tolist()}), task="classification")
    answer = open_package(package).predict(Table.of({"place": ["north", "west"], "a": [0.5, 0.5]}))
    expected = model.predict_proba(pd.DataFrame({"a": [0.5, 0.5], "place": ["north", "west"]}))
    assert np.allclose(answer.column("p:True"), expected[:, 1], atol=1e-6)


def test_an_export_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that answers one training row differently never becomes a package."""
    from perennial.package import trees

    table, truth = rows()
    model = REGRESSORS["lightgbm"]().fit(table.numbers, truth)
    monkeypatch.setattr(trees, "floor32", lambda t: np.nextafter(floor32(t), np.float32(np.inf)) + np.float32(0.05))
    with pytest.raises(FailedPrecondition, match="differ by"):
        package_model(model, table, task="regression", signature=any_nulls(table))


def test_thresholds_between_neighbouring_floats_keep_every_row_on_its_side() -> None:
    """The graph splits 32-bit numbers exactly where the model splits them: rounding down, never to nearest."""
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2))
    thresholds = (np.float64(low) + np.float64(high)) / 2 + np.array([-1e-9, 0.0, 1e-9])
    found = floor32(thresholds)
    assert (found == low).all()
    assert all((x <= t) == (x <= np.float64(t64)) for t, t64 in zip(found, thresholds, strict=True) for x in (low, high))
    assert floor32(np.array([np.float64(high)])) == high
    assert floor32(np.array([1e300])) == np.finfo(np.float32).max


def test_what_cannot_be_exported_is_refused_by_name() -> None:
    """Objectives with a link of their own and estimators without classes."""
    table, truth = rows(nulls=0)
    with pytest.raises(InvalidArgument, match="poisson"):
        model: Any = lightgbm.LGBMRegressor(objective="poisson", verbose=-1)
        package_model(model.fit(table.numbers, truth**2), table, task="regression")
    with pytest.raises(InvalidArgument, match="has no classes_"):
        package_model(HistGradientBoostingRegressor().fit(table.numbers, truth), table, task="classification")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PoissonRegressor().fit(table.numbers, truth**2)
    package_model(model, table, task="regression")


def test_the_same_model_gives_the_same_bytes() -> None:
    """Content addressing: nothing in a graph depends on when or where it was exported."""
    table, truth = rows()
    graphs = set()
    for _ in range(2):
        model = REGRESSORS["histogram"]().fit(table.numbers, truth)
        graphs.add(package_model(model, table, task=Task.REGRESSION).digest)
    assert len(graphs) == 1


def test_the_graph_is_valid_onnx_with_the_contract_s_names() -> None:
    """One graph: numbers float32 [N,k] in, prediction float32 [N,1] out."""
    table, truth = rows()
    package = package_model(REGRESSORS["lightgbm"]().fit(table.numbers, truth), table, task="regression")
    graph = onnx.load_from_string(package.contents["model.onnx"])
    onnx.checker.check_model(graph, full_check=True)
    assert [i.name for i in graph.graph.input] == ["numbers"]
    assert [o.name for o in graph.graph.output] == ["prediction"]
