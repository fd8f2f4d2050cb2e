"""Which rows does a job train on?

A training set is read as it lies. From the prediction log come the inputs as served, joined with the outcomes known at
the cut (the last revision wins); for the part of the window before the deployment's first logged row, the rows of its
first training set. Rows are sorted by (event time, entity key, n, inputs), never by stream, so the same facts always
make the same rows, and their digest says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from perennial.errors import FailedPrecondition, InvalidArgument
from perennial.frames import Table, Text
from perennial.package import Column, ColumnType, Signature, Task

from services.trainer.agent.work.spec import LogFiles, TrainingSetFile
from services.trainer.domain.recipe import UnitChange

if TYPE_CHECKING:
    from polars import DataFrame, Expr, Series

LABEL = "label:"
_ORDER = ("event_time_us", "entity_key", "n")


@dataclass(frozen=True)
class TrainingRows:
    """Rows with their truths, in order: numbers in 32 bits, truths as float64 or as texts."""

    table: Table
    truths: NDArray[Any]
    times_us: NDArray[np.int64]
    keys: NDArray[np.object_]

    @property
    def digest(self) -> str:
        """sha256 over times, keys, inputs and truths, hex."""
        state = hashlib.sha256()
        state.update(repr((self.table.rows, self.table.number_names, tuple(self.table.texts))).encode())
        state.update(np.ascontiguousarray(self.times_us, dtype="<i8").tobytes())
        numbers = np.ascontiguousarray(self.table.numbers, dtype="<f4")
        state.update(np.where(np.isnan(numbers), np.float32(np.nan), numbers).tobytes())
        for text in self.table.texts.values():
            state.update(np.ascontiguousarray(text.codes, dtype="<i4").tobytes())
            state.update("\0".join(text.values).encode())
        for column in (self.keys, self.truths):
            whole = column.dtype != object
            state.update(np.ascontiguousarray(column, dtype="<f8").tobytes() if whole else "\0".join(map(str, column)).encode())
        return state.hexdigest()


def columns_in(file: TrainingSetFile, wanted: Sequence[str]) -> list[Column]:
    """The input columns a model of this training set has; every one accepts nulls, which all algorithms can read."""
    import polars as pl

    schema = pl.read_parquet_schema(file.path)
    _refuse_missing(wanted, list(schema))
    return [Column(name, ColumnType.TEXT if _is_text(schema[name]) else ColumnType.NUMBER) for name in wanted]


def _refuse_missing(wanted: Sequence[str], there: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in there]:
        raise InvalidArgument(f"the training set has no column {', '.join(map(repr, missing))}; it has {', '.join(there)}")


def of_training_set(file: TrainingSetFile, signature: Signature, target: str) -> TrainingRows:
    """All its rows that have a truth."""
    return _made(_training_set_frame(file, signature, target), signature)


def of_log(files: LogFiles, first: TrainingSetFile | None, signature: Signature, target: str) -> TrainingRows:
    """The window's rows. FailedPrecondition when none of them has a truth."""
    import polars as pl

    logged, begins_us = _logged(files, signature)
    parts = [logged]
    if first is not None and (begins_us is None or files.window_start_us < begins_us):
        earlier = _training_set_frame(first, signature, target)
        end = files.window_end_us if begins_us is None else begins_us
        parts.insert(0, earlier.filter(pl.col("event_time_us").is_between(files.window_start_us, end, closed="left")))
    return _made(_converted(pl.concat(parts), files.units), signature)


def _converted(rows: DataFrame, units: Sequence[UnitChange]) -> DataFrame:
    """The rows in today's units: what was served before a column's unit changed is multiplied."""
    import polars as pl

    for unit in units:
        if unit.column in rows.columns:
            old = pl.col("event_time_us") < unit.since_us
            rows = rows.with_columns(pl.when(old).then(pl.col(unit.column) * unit.factor).otherwise(pl.col(unit.column)))
    return rows


def _made(frame: DataFrame, signature: Signature) -> TrainingRows:
    """The rows in order, those without a truth dropped."""
    import polars as pl

    frame = frame.filter(pl.col(LABEL).is_not_null())
    if frame.is_empty():
        raise FailedPrecondition("no row has a known truth: nothing to train on")
    frame = frame.sort([*_ORDER, *(c.name for c in signature.columns)], nulls_last=True, maintain_order=True)
    numbers = np.empty((frame.height, len(signature.number_names)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for place, name in enumerate(signature.number_names):
            numbers[:, place] = frame[name].to_numpy()
    texts = {name: _text(frame[name]) for name in signature.text_names}
    table = signature.check(Table(frame.height, signature.number_names, numbers, texts))
    truths = frame[LABEL].to_numpy()
    keys = frame["entity_key"].fill_null("").to_numpy()
    return TrainingRows(table, truths, frame["event_time_us"].to_numpy(), keys.astype(object))


def _text(column: Series) -> Text:
    values = column.drop_nulls().unique().sort().to_list()
    places = {value: place for place, value in enumerate(values)}
    codes = [places.get(value, -1) for value in column.to_list()]
    return Text(np.array(codes, dtype=np.int32), tuple(values))


def _training_set_frame(file: TrainingSetFile, signature: Signature, target: str) -> DataFrame:
    import polars as pl

    frame = pl.read_parquet(file.path)
    names = [c.name for c in signature.columns]
    _refuse_missing([target, *names], frame.columns)
    key = pl.col("entity_key").cast(pl.String) if "entity_key" in frame.columns else pl.lit(None, pl.String)
    return frame.select(
        pl.col("event_time_us").cast(pl.Int64),
        key.alias("entity_key"),
        pl.lit(0, pl.Int64).alias("n"),
        *(_typed(pl.col(c.name), c) for c in signature.columns),
        _truth(pl.col(target), frame.schema[target], signature.task).alias(LABEL),
    )


def _logged(files: LogFiles, signature: Signature) -> tuple[DataFrame, int | None]:
    """The window's rows of the log with their truths, and when the log begins."""
    import polars as pl

    if not files.predictions:
        names = {**dict.fromkeys(_ORDER[::2], pl.Int64), "entity_key": pl.String}
        types = {c.name: pl.String if c.type is ColumnType.TEXT else pl.Float64 for c in signature.columns}
        truth = {LABEL: pl.Float64 if signature.task is Task.REGRESSION else pl.String}
        empty = pl.DataFrame(schema={**names, **types, **truth})
        return empty.select([*_ORDER, *types, LABEL]), files.begins_us
    rows = pl.concat([pl.read_parquet(path) for path in files.predictions], how="diagonal_relaxed")
    latest = files.window_end_us if files.begins_us is None else files.begins_us
    begins_us = int(rows["event_time_us"].to_numpy().min(initial=latest))
    rows = rows.filter(pl.col("event_time_us").is_between(files.window_start_us, files.window_end_us, closed="left"))
    rows = _before_cut(rows, files.streams).unique(["stream", "n"], keep="any")
    rows = rows.join(_outcomes(files, signature.task), on=["stream", "n"], how="inner")
    served = set(rows.columns)
    inputs = [
        _typed(pl.col(f"in:{c.name}") if f"in:{c.name}" in served else pl.lit(None), c).alias(c.name) for c in signature.columns
    ]
    order = [pl.col("event_time_us").cast(pl.Int64), pl.col("entity_key").cast(pl.String), pl.col("n").cast(pl.Int64)]
    return rows.select(*order, *inputs, LABEL), begins_us


def _outcomes(files: LogFiles, task: Task) -> DataFrame:
    """One truth a prediction: of those known by the cut, the last revision."""
    import polars as pl

    empty = {
        "stream": pl.String, "n": pl.Int64, "number": pl.Float64, "label": pl.String, "known_at_us": pl.Int64,
        "revision": pl.Int32,
    }  # fmt: skip
    parts = [pl.DataFrame(schema=empty), *(pl.read_parquet(path).select(list(empty)) for path in files.outcomes)]
    found = pl.concat(parts, how="vertical_relaxed").filter(pl.col("known_at_us") <= files.window_end_us)
    found = found.sort(["stream", "n", "revision"]).unique(["stream", "n"], keep="last", maintain_order=True)
    number = pl.col("number").fill_nan(None)
    truth = number if task is Task.REGRESSION else pl.coalesce(pl.col("label"), _number_as_text(number))
    return found.select("stream", "n", truth.alias(LABEL)).filter(pl.col(LABEL).is_not_null())


def _before_cut(rows: DataFrame, streams: Mapping[str, int] | None) -> DataFrame:
    """Rows at positions that the cut had reached."""
    import polars as pl

    if streams is None:
        return rows
    positions = {"stream": list(streams), "next_n": list(streams.values())}
    cut = pl.DataFrame(positions, schema={"stream": pl.String, "next_n": pl.Int64})
    return rows.join(cut, on="stream", how="inner").filter(pl.col("n") < pl.col("next_n")).drop("next_n")


def _typed(column: Expr, of: Column) -> Expr:
    import polars as pl

    if of.type is ColumnType.TEXT:
        return column.cast(pl.String).alias(of.name)
    return column.cast(pl.Float64).fill_null(float("nan")).alias(of.name)


def _truth(column: Expr, kind: Any, task: Task) -> Expr:
    """A label column as numbers (NaN means unknown), or as texts of classes."""
    import polars as pl

    if task is Task.REGRESSION:
        if _is_text(kind):
            raise InvalidArgument("the label column holds texts; a regression needs numbers")
        return column.cast(pl.Float64).fill_nan(None)
    if _is_text(kind):
        return column.cast(pl.String)
    return _number_as_text(column.cast(pl.Float64).fill_nan(None))


def _number_as_text(number: Expr) -> Expr:
    """1.0 is the class "1"."""
    import polars as pl

    whole = number.round(0) == number
    return pl.when(whole).then(number.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(number.cast(pl.String))


def _is_text(kind: Any) -> bool:
    import polars as pl

    return kind in (pl.String, pl.Categorical, pl.Enum) or isinstance(kind, pl.Enum)
