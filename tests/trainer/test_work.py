"""What a job does with its rows: which it takes, what it holds out, when it declines. No services needed."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from perennial.errors import FailedPrecondition, InvalidArgument
from perennial.package import Column, ColumnType, Signature, Task, load
from perennial.stats.profile import Profile

from services.trainer.agent.work import rows as reading
from services.trainer.agent.work.spec import LogFiles, Result, Spec, TrainingSetFile
from services.trainer.agent.work.training import train
from services.trainer.domain.recipe import Recipe
from tests.trainer import rows

DAY, START = rows.DAY_US, rows.START_US
SIGNATURE = Signature.of([*(Column(n, ColumnType.NUMBER) for n in "xyz"), Column("place", ColumnType.TEXT)])


def stored(folder: Path, name: str, frame: pl.DataFrame) -> str:
    """A Parquet file."""
    path = folder / f"{name}.parquet"
    frame.write_parquet(path)
    return str(path)


def files(folder: Path, *logs: rows.Log, days: tuple[int, int] = (0, 100), **more: Any) -> LogFiles:
    """The files of a snapshot, window given in days."""
    predictions = tuple(stored(folder, f"p{i}", log.predictions) for i, log in enumerate(logs))
    outcomes = tuple(stored(folder, f"o{i}", log.outcomes) for i, log in enumerate(logs))
    return LogFiles(predictions, outcomes, START + days[0] * DAY, START + days[1] * DAY, **more)


def recipe(algorithm: str = "lightgbm", **more: Any) -> Recipe:
    """A small recipe."""
    parameters = {} if algorithm == "linear" else {"rounds": 20}
    fields = {"task": "regression", "target": "target", "columns": ("place", "x", "y", "z")} | more
    return Recipe(model="m", algorithm=algorithm, hyperparameters=parameters, seed=1, **fields)


def trained(folder: Path, frame: pl.DataFrame, made: Recipe | None = None) -> Result:
    """A first training on these rows."""
    folder.mkdir(exist_ok=True)
    training_set = TrainingSetFile(stored(folder, "set", frame), "0" * 64)
    return train(Spec("job", str(folder), made or recipe(), training_set=training_set), lambda _share, _step: None)


def retrained(folder: Path, parent: str, log: LogFiles, first: TrainingSetFile | None = None, **more: Any) -> Result:
    """A retraining of ``parent``."""
    folder.mkdir(exist_ok=True)
    spec = Spec("again", str(folder), recipe(), training_set=first, log=log, parent=parent, parent_version="1.0.0", **more)
    return train(spec, lambda _share, _step: None)


def test_the_log_s_rows_are_those_served_in_the_window_with_truths_known_at_the_cut(tmp_path: Path) -> None:
    """No leak: an outcome known after the cut, and a row outside the window, are not there."""
    frame = rows.frame(days=10)
    found = reading.of_log(files(tmp_path, rows.log(frame), days=(2, 8)), None, SIGNATURE, "target")
    window = frame.filter(pl.col("event_time_us").is_between(START + 2 * DAY, START + 8 * DAY - 3_600_000_000))
    assert found.times_us.tolist() == window["event_time_us"].to_list()
    assert np.allclose(found.truths, window["target"].to_numpy())
    assert np.allclose(found.table.column("x"), window["x"].to_numpy())
    assert found.table.column("place").tolist() == window["place"].to_list()


def test_the_last_revision_known_at_the_cut_wins(tmp_path: Path) -> None:
    """A correction that came later than the cut is not known."""
    log = rows.log(rows.frame(rows=50, days=2))
    first = log.outcomes.row(0, named=True)
    corrections = pl.DataFrame([
        {**first, "number": 100.0, "revision": 1}, {**first, "number": 200.0, "revision": 2, "known_at_us": START + 50 * DAY},
    ], schema=log.outcomes.schema)  # fmt: skip
    log = rows.Log(log.predictions, pl.concat([corrections, log.outcomes]))
    found = reading.of_log(files(tmp_path, log, days=(0, 40)), None, SIGNATURE, "target")
    assert found.truths[0] == 100.0
    later = reading.of_log(files(tmp_path, log, days=(0, 60)), None, SIGNATURE, "target")
    assert later.truths[0] == 200.0


def test_rows_repeated_in_several_files_count_once(tmp_path: Path) -> None:
    """Whatever the log's files repeat, a prediction is one row."""
    log = rows.log(rows.frame(rows=80, days=3))
    again = rows.Log(log.predictions.head(40), log.outcomes.tail(40))
    twice = reading.of_log(files(tmp_path, log, again), None, SIGNATURE, "target")
    assert twice.table.rows == 80


def test_rows_beyond_the_cut_s_positions_are_not_taken(tmp_path: Path) -> None:
    """Where a file reaches beyond the cut, its positions decide."""
    log = rows.log(rows.frame(rows=80, days=3))
    found = reading.of_log(files(tmp_path, log, streams={"a" * 24 + ".0": 31}), None, SIGNATURE, "target")
    assert found.table.rows == 30


def test_the_same_facts_give_the_same_rows_whatever_the_streams_are_called(tmp_path: Path) -> None:
    """Stream ids are random; two replays of one year must train on the same bytes."""
    frame = rows.frame(rows=300, days=5)
    digests = set()
    for name, cut in (("a", 100), ("f", 210)):
        parts = [rows.log(frame.head(cut), stream=name * 24 + ".0"), rows.log(frame.tail(300 - cut), stream=name * 24 + ".1")]
        digests.add(reading.of_log(files(tmp_path, *parts[:: 1 if name == "a" else -1]), None, SIGNATURE, "target").digest)
    assert len(digests) == 1


def test_rows_before_the_log_come_from_the_first_training_set(tmp_path: Path) -> None:
    """loop.md: for the part of the window before the first logged row, and not a row more."""
    early, served = rows.frame(rows=400, days=12), rows.frame(rows=300, days=5, seed=2, first_day=10)
    first = TrainingSetFile(stored(tmp_path, "set", early), "0" * 64)
    found = reading.of_log(files(tmp_path, rows.log(served), days=(4, 100)), first, SIGNATURE, "target")
    begins = served["event_time_us"].min()
    expected = early.filter(pl.col("event_time_us").is_between(START + 4 * DAY, begins, closed="left")).height
    assert found.table.rows == expected + 300
    nothing = LogFiles((), (), START, START + 12 * DAY)
    assert reading.of_log(nothing, first, SIGNATURE, "target").table.rows == 400


def test_no_known_truth_is_nothing_to_train_on(tmp_path: Path) -> None:
    """The reason names what is missing."""
    log = rows.log(rows.frame(rows=50, days=2), known_after_us=90 * DAY)
    with pytest.raises(FailedPrecondition, match="no row has a known truth"):
        reading.of_log(files(tmp_path, log, days=(0, 10)), None, SIGNATURE, "target")


@pytest.mark.parametrize("algorithm", ["lightgbm", "hist_gradient_boosting", "linear"])
def test_the_same_training_twice_is_the_same_artifact(tmp_path: Path, algorithm: str) -> None:
    """Two runs on the same rows: the same data digest and every file the same, byte by byte."""
    found = []
    for run in ("one", "two"):
        result = trained(tmp_path / run, rows.frame(), recipe(algorithm))
        found.append((result.data_digest, {p.name: p.read_bytes() for p in Path(result.package).iterdir()}))
    assert found[0] == found[1]
    assert sorted(found[0][1]) == ["background.parquet", "manifest.json", "model.onnx", "reference.bin"]


def test_a_package_carries_its_reference(tmp_path: Path) -> None:
    """The profile has every input, out-of-sample outputs and a residual a day; the background at most 200 rows."""
    result = trained(tmp_path, rows.frame(days=12))
    profile = Profile.from_bytes((Path(result.package) / "reference.bin").read_bytes())
    assert profile.rows == 1500
    assert profile.errors is not None
    assert len(profile.errors.block_means) == 12
    assert profile.errors.mean_loss == pytest.approx(result.metrics["mae"], rel=1e-6)
    background = pl.read_parquet(Path(result.package) / "background.parquet")
    assert background.height == 200
    assert set(background.columns) == set(rows.INPUTS)


def test_figures_are_out_of_sample(tmp_path: Path) -> None:
    """A model that learnt pure noise by heart says so in its figures."""
    frame = rows.frame().with_columns(target=pl.Series(np.random.default_rng(1).normal(size=1500)))
    result = trained(tmp_path, frame, recipe(columns=("x", "z")))
    in_sample = load(Path(result.package)).predict(
        reading.of_training_set(TrainingSetFile(str(tmp_path / "set.parquet"), ""), SIGNATURE, "target").table.select(("x", "z"))
    )
    error = np.abs(in_sample.column("prediction") - frame.sort("event_time_us")["target"].to_numpy()).mean()
    assert result.metrics["mae"] > 0.75 > error


def test_classes_are_learnt_by_name(tmp_path: Path) -> None:
    """Text labels, and whole numbers as the text of them."""
    result = trained(tmp_path / "text", rows.frame(), recipe(task="classification", target="kind"))
    predictor = load(Path(result.package))
    assert predictor.signature.classes == ("high", "low", "mid")
    assert result.metrics["accuracy"] > 0.7
    numbered = rows.frame().with_columns(kind=(pl.col("target") > 4).cast(pl.Int64))
    result = trained(tmp_path / "number", numbered, recipe(task="classification", target="kind"))
    signature = load(Path(result.package)).signature
    assert (signature.task, signature.classes) == (Task.CLASSIFICATION, ("0", "1"))


def test_a_retraining_learns_the_new_world(tmp_path: Path) -> None:
    """The judged figures show the new recipe better than its parent after the change; the signature is the parent's."""
    first = trained(tmp_path / "first", rows.frame(days=10))
    served = rows.frame(days=10, seed=2, first_day=10, shift=3.0)
    log = files(tmp_path, rows.log(served), days=(10, 30), change_us=START + 10 * DAY)
    result = retrained(tmp_path / "again", first.package, log)
    assert not result.declined
    assert result.metrics["judged_loss"] < 0.5 * result.metrics["judged_parent_loss"]
    assert load(Path(result.package)).signature == load(Path(first.package)).signature
    assert load(Path(result.package)).manifest.parent == "1.0.0"


def test_a_change_that_is_hours_old_is_in_both_sides_of_the_judgement(tmp_path: Path) -> None:
    """Blocks after the change are short enough that the recipe has seen some of it: no decline for lack of rows."""
    first = trained(tmp_path / "first", rows.frame(days=10))
    old = rows.frame(days=10, seed=2, first_day=10, rows=1000)
    new = rows.frame(days=1, seed=3, first_day=20, shift=8.0, rows=300)
    log = files(tmp_path, rows.log(pl.concat([old, new])), days=(10, 22), change_us=START + 20 * DAY)
    result = retrained(tmp_path / "again", first.package, log)
    assert not result.declined
    assert result.metrics["judged_loss"] < 0.97 * result.metrics["judged_parent_loss"]


def test_a_recipe_that_would_do_harm_is_declined(tmp_path: Path) -> None:
    """A window too poor to learn from: the parent stays, with the figures that say why."""
    first = trained(tmp_path / "first", rows.frame(rows=4000, days=10))
    served = rows.frame(rows=60, days=20, seed=2, first_day=10)
    result = retrained(tmp_path / "again", first.package, files(tmp_path, rows.log(served), days=(10, 40)))
    assert "held-out blocks" in result.declined
    assert result.metrics["judged_loss"] > 1.1 * result.metrics["judged_parent_loss"]
    assert not result.package


def test_a_column_that_the_training_set_lacks_is_named(tmp_path: Path) -> None:
    """A recipe over columns that are not there."""
    with pytest.raises(InvalidArgument, match="no column 'nowhere'"):
        trained(tmp_path, rows.frame(), recipe(columns=("x", "nowhere")))
    with pytest.raises(InvalidArgument, match="needs numbers"):
        trained(tmp_path, rows.frame(), recipe(target="kind"))
    with pytest.raises(FailedPrecondition, match="too few"):
        trained(tmp_path, rows.frame(rows=10))
