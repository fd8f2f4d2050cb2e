"""One battery over the table of algorithms."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from perennial.frames import Table, Text
from perennial.package import Column, ColumnType, Manifest, Predictor, Signature, Task
from perennial.package.replay import replayed

from services.trainer.algorithms import ALGORITHMS, Algorithm, Fitted, Problem

CASES: dict[str, tuple[str, ...]] = {"regression": (), "two classes": ("n", "y"), "three classes": ("h", "l", "m")}
ROUNDS = {"rounds": 15}
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=list(ALGORITHMS))
every_case = pytest.mark.parametrize("case", CASES)


def rows(count: int = 600, *, seed: int = 0) -> Table:
    """Numbers with nulls, a constant, a column of nothing but nulls; texts with nulls, and one of nothing but nulls."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 4)).astype(np.float32)
    numbers[:, :2][random.random((count, 2)) < 0.1] = np.nan
    numbers[:, 2], numbers[:, 3] = 7.0, np.nan
    place = Text(random.integers(-1, 3, size=count).astype(np.int32), ("east", "north", "south"))
    nothing = Text(np.full(count, -1, dtype=np.int32), ())
    return Table(count, ("a", "b", "same", "none"), numbers, {"place": place, "empty": nothing})


def truth(table: Table, case: str) -> NDArray[Any]:
    """Something the columns say much about."""
    value = 3 * np.nan_to_num(table.column("a")) + 2.0 * table.texts["place"].codes
    if case == "regression":
        return np.asarray(value, dtype=np.float64)
    return np.asarray(np.digitize(value, [1.0] if case == "two classes" else [0.0, 3.0]), dtype=np.int32)


def problem(algorithm: Algorithm, case: str, *, texts: bool = True, seed: int = 3) -> Problem:
    """The problem of these rows."""
    columns = [Column(name, ColumnType.NUMBER) for name in ("a", "b", "same", "none")]
    columns += [Column(name, ColumnType.TEXT) for name in ("place", "empty")] if texts else []
    task = Task.CLASSIFICATION if CASES[case] else Task.REGRESSION
    given = {name: value for name, value in ROUNDS.items() if name in algorithm.hyperparameters}
    return Problem(Signature.of(columns, task, CASES[case]), algorithm.checked(given), seed=seed)


def asked(fitted: Fitted, given: Problem, table: Table) -> NDArray[np.float32]:
    """What the exported graph answers."""
    return Predictor(Manifest("f", "a", given.signature), fitted.graph()).run(table)


@every_algorithm
@every_case
def test_the_graph_answers_as_the_model_does(algorithm: Algorithm, case: str) -> None:
    """Over training rows, rows of nulls only, and texts that training never saw."""
    given = problem(algorithm, case)
    fitted = algorithm.fit(rows(), truth(rows(), case), given)
    strange = Table.of({name: [None] * 3 for name in ("a", "b", "same", "none")})
    strange = given.signature.check(strange.merged(Table(3, (), np.empty((3, 0)), {
        "place": Text.of([None, "west", ""]), "empty": Text.of(["news", None, ""]),
    })))  # fmt: skip
    table = Table.concat([rows(), rows(200, seed=9), strange])
    check = replayed(fitted.predict(table), asked(fitted, given, table))
    assert check.rows == 803


@every_algorithm
@every_case
def test_it_learns_what_there_is(algorithm: Algorithm, case: str) -> None:
    """Far better than answering the mean or the commonest class."""
    given = problem(algorithm, case)
    table, labels = rows(2000), truth(rows(2000), case)
    outputs = algorithm.fit(table, labels, given).predict(table)
    if case == "regression":
        assert np.abs(outputs[:, 0] - labels).mean() < 0.5 * np.abs(labels - np.median(labels)).mean()
    else:
        assert (outputs.argmax(axis=1) == labels).mean() > 0.8
        assert np.allclose(outputs.sum(axis=1), 1.0)


@every_algorithm
@every_case
def test_the_same_rows_and_seed_give_the_same_bytes(algorithm: Algorithm, case: str) -> None:
    """F: two runs of one job are one artifact."""
    given = problem(algorithm, case)
    graphs = {algorithm.fit(rows(), truth(rows(), case), given).graph() for _ in range(2)}
    assert len(graphs) == 1


@every_algorithm
@pytest.mark.parametrize("seen", [(0, 2), (1, 2), (2,)])
def test_a_class_missing_in_a_fold_has_no_chance(algorithm: Algorithm, seen: tuple[int, ...]) -> None:
    """A retraining keeps its parent's classes although the window lacks one; the graph says so too."""
    given = problem(algorithm, "three classes")
    table = rows()
    labels = np.array(seen, dtype=np.int32)[truth(table, "two classes") % len(seen)]
    fitted = algorithm.fit(table, labels, given)
    outputs = fitted.predict(table)
    assert outputs.shape == (600, 3)
    missing = [c for c in range(3) if c not in seen]
    assert outputs[:, missing].max() < 1e-6
    replayed(outputs, asked(fitted, given, table))


@every_algorithm
def test_numbers_alone_make_a_graph_without_texts(algorithm: Algorithm) -> None:
    """The graph has exactly the inputs its signature has."""
    given = problem(algorithm, "regression", texts=False)
    table = rows().select(("a", "b", "same", "none"))
    fitted = algorithm.fit(table, truth(rows(), "regression"), given)
    replayed(fitted.predict(table), asked(fitted, given, table))


@every_algorithm
@every_case
def test_importances_are_shares_of_every_column(algorithm: Algorithm, case: str) -> None:
    """The monitor weighs columns by them: constants and nulls matter nothing, what decides matters."""
    given = problem(algorithm, case)
    found = algorithm.fit(rows(), truth(rows(), case), given).importances()
    assert set(found) == {c.name for c in given.signature.columns}
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["none"] == found["same"] == found["empty"] == 0
    assert found["a"] + found["place"] > 0.6


@every_algorithm
def test_an_algorithm_says_what_it_is(algorithm: Algorithm) -> None:
    """A name, a description, defaults that pass its own check, and nothing missing here."""
    assert algorithm.name in ALGORITHMS
    assert algorithm.description
    assert algorithm.missing() == ""
    assert algorithm.checked({}) == {name: one.default for name, one in algorithm.hyperparameters.items()}
