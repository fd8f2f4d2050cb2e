"""What would have been without the platform? The first model left alone, and an even schedule with as many retrainings.

Both are computed afterwards from the platform's own prediction log: the same rows, as they were served.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from perennial.clock import to_us
from perennial.frames import Table
from perennial.package import load
from perennial.runtime.objects import Objects
from perennial.v1.events_pb2 import LogSnapshot

from examples.flights.data import local_midnight
from examples.flights.setup import Plan

WINDOW_DAYS = 56
Floats = NDArray[np.float64]
Fit = Callable[[Table, Floats], Callable[[Table], Floats]]


@dataclass(frozen=True)
class Log:
    """The ETA deployment's log: a row a prediction, inputs as served, its truth and when that was known."""

    rows: pl.DataFrame
    columns: tuple[str, ...]

    def inputs(self, rows: pl.DataFrame) -> Table:
        """The inputs of some rows as a model takes them."""
        return Table.of({name: _values(rows[name]) for name in self.columns})


def _values(column: pl.Series) -> NDArray[np.float64] | list[str | None]:
    return column.to_list() if column.dtype == pl.String else column.cast(pl.Float64).fill_null(np.nan).to_numpy()


async def read_log(objects: Objects, snapshot: LogSnapshot) -> Log:
    """The log that a snapshot names; every digest is checked."""
    manifest = json.loads(await checked(objects, snapshot.manifest_key, snapshot.manifest_sha256))
    tables: dict[str, list[pl.DataFrame]] = {"predictions": [], "outcomes": []}
    for file in manifest["files"]:
        if file["kind"] in tables:
            tables[file["kind"]].append(pl.read_parquet(io.BytesIO(await checked(objects, file["key"], file["sha256"]))))
    predictions = pl.concat(tables["predictions"], how="diagonal_relaxed").unique(["stream", "n"], keep="first")
    outcomes = (
        pl.concat(tables["outcomes"], how="diagonal_relaxed").sort("revision").unique(["stream", "n"], keep="last")
        .select("stream", "n", "known_at_us", truth="number")
    )  # fmt: skip
    inputs = tuple(name.removeprefix("in:") for name in predictions.columns if name.startswith("in:"))
    rows = predictions.join(outcomes, on=["stream", "n"], how="left").rename({f"in:{name}": name for name in inputs})
    return Log(rows.sort("event_time_us", "entity_key", "n"), inputs)


async def checked(objects: Objects, key: str, sha256: str) -> bytes:
    """An object whose digest is as told. RuntimeError when it is not."""
    content = await objects.get(key)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RuntimeError(f"{key} is not what its digest says")
    return content


def left_alone(log: Log, package: Path) -> NDArray[np.float64]:
    """Absolute error of the first model on every logged row with a truth."""
    known = log.rows.filter(pl.col("truth").is_not_null())
    answers = load(package).predict(log.inputs(known)).column("prediction")
    return np.asarray(np.abs(answers - known["truth"].to_numpy()))


def even_schedule(log: Log, first: pl.DataFrame, plan: Plan, retrainings: int, fit: Fit) -> float:
    """Mean absolute error with ``retrainings`` refits at even distances, each live at once: better than any real schedule.

    The recipe, the window and the rows are the platform's.
    """
    known = log.rows.filter(pl.col("truth").is_not_null())
    cuts = even_cuts(plan, retrainings)
    total, count = 0.0, 0
    for place, cut in enumerate(cuts):
        until = to_us(cuts[place + 1]) if place + 1 < len(cuts) else to_us(local_midnight(plan.end)) + 1
        scored = known.filter((pl.col("event_time_us") >= to_us(cut)) & (pl.col("event_time_us") < until))
        model = fit(*window(log, first, cut))
        answers = model(log.inputs(scored))
        total += float(np.abs(answers - scored["truth"].to_numpy()).sum())
        count += len(scored)
    return total / count


def even_cuts(plan: Plan, retrainings: int) -> Sequence[datetime]:
    """Midnights at even distances; the first is the start, where the first model is refitted on the same rows."""
    days = np.linspace(plan.start, plan.end, retrainings + 2)[:-1]
    return [local_midnight(round(day)) for day in days]


def window(log: Log, first: pl.DataFrame, cut: datetime) -> tuple[Table, NDArray[np.float64]]:
    """Inputs and truths of the 56 days before a cut, from the log and, before its first row, the first training set."""
    start, end = to_us(cut - timedelta(days=WINDOW_DAYS)), to_us(cut)
    logged_from = log.rows["event_time_us"].min()
    old = first.filter((pl.col("event_time_us") >= start) & (pl.col("event_time_us") < logged_from)).rename({"air_time": "truth"})
    new = log.rows.filter((pl.col("event_time_us") >= start) & (pl.col("known_at_us") < end) & pl.col("truth").is_not_null())
    both = pl.concat([frame.select(*log.columns, "truth") for frame in (old, new)], how="vertical_relaxed")
    return log.inputs(both), both["truth"].to_numpy()
