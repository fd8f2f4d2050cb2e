"""What may a caller hand over as rows, and what does it get back?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from perennial.clock import from_us, to_us
from perennial.errors import InvalidArgument
from perennial.frames import Table, decode
from perennial.v1 import serving_pb2

Rows = Table | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Any
Time = datetime | int
Times = NDArray[np.int64] | Sequence[datetime] | Sequence[int]


def as_table(rows: Rows) -> Table:
    """A table of: a Table, a mapping of columns, a sequence of row mappings, or a polars or pandas data frame."""
    if isinstance(rows, Table):
        return rows
    if isinstance(rows, Mapping):
        return Table.of(rows)
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):  # a data frame
        return Table.of({str(name): np.asarray(rows[name].to_numpy()) for name in rows.columns})
    if isinstance(rows, Sequence):
        names = list(dict.fromkeys(name for row in rows for name in row))
        return Table.of({name: [row.get(name) for row in rows] for name in names})
    raise InvalidArgument(f"rows are a mapping of columns, a list of mappings or a data frame, not {type(rows).__name__}")


def as_us(time: Time) -> int:
    """Microseconds since the epoch of an aware datetime (or of microseconds)."""
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise InvalidArgument(f"{time} has no time zone; use datetime(..., tzinfo=UTC)")
        return to_us(time)
    return int(time)


def as_times_us(times: Times | None) -> list[int]:
    """Microseconds since the epoch of each; empty for none."""
    if times is None:
        return []
    if isinstance(times, np.ndarray):
        return cast("list[int]", times.astype(np.int64).tolist())
    return [as_us(time) for time in times]


def as_datetime(time: Time) -> datetime:
    """The aware datetime of microseconds since the epoch (or of a datetime)."""
    return from_us(as_us(time))


@dataclass(frozen=True, slots=True)
class Predictions:
    """The answers to the rows of one call, in their order."""

    table: Table
    runs: tuple[serving_pb2.PredictionRun, ...]

    @classmethod
    def of(cls, response: serving_pb2.PredictResponse) -> Predictions:
        """From the answer of Predict."""
        return cls(decode(response.outputs), tuple(response.runs))

    @property
    def values(self) -> NDArray[Any]:
        """The predicted numbers, or labels."""
        return self.table.column("label" if "label" in self.table.texts else "prediction")

    @property
    def ids(self) -> list[str]:
        """Id of each row's prediction: what an outcome names."""
        ids = [""] * self.table.rows
        for run in self.runs:
            rows = run.rows or range(run.count)
            for place, row in enumerate(rows):
                ids[row] = f"{run.stream}-{run.first_n + place}"
        return ids

    @property
    def versions(self) -> list[str]:
        """The version that answered each row."""
        versions = [""] * self.table.rows
        for run in self.runs:
            for row in run.rows or range(run.count):
                versions[row] = run.version
        return versions

    def __len__(self) -> int:
        return self.table.rows
