"""What does a training set hold, and in which order?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from perennial.errors import InvalidArgument
from perennial.frames import Table

TIME, ENTITY = "event_time_us", "entity_key"


@dataclass(frozen=True, slots=True)
class Join:
    """Features of a view joined to a column of the rows."""

    view: str
    key_column: str
    features: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """What a training set shall hold; ``known_by_us`` None: facts count from when they were known."""

    name: str
    joins: tuple[Join, ...]
    labels: tuple[str, ...]
    known_by_us: int | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows to join to; ``entities`` has one key a row."""

    table: Table
    times: NDArray[np.int64]
    entities: NDArray[np.object_]


def check_rows(header: Header, table: Table) -> None:
    """Whether rows have every column the header names. InvalidArgument otherwise."""
    for what, names in (("key column", [join.key_column for join in header.joins]), ("label column", header.labels)):
        if missing := [name for name in names if name not in table.names]:
            raise InvalidArgument(f"the rows lack the {what} {missing[0]!r}; they have {', '.join(table.names) or 'no columns'}")
    if wrong := [join.key_column for join in header.joins if join.key_column not in table.texts]:
        raise InvalidArgument(f"the key column {wrong[0]!r} must hold texts")
    if taken := {TIME, ENTITY} & set(table.names):
        raise InvalidArgument(f"the column name {min(taken)!r} is taken by the table itself")
    if np.isinf(table.numbers).any():
        raise InvalidArgument("a number of the rows is infinite")


def check_names(names: Sequence[str], table: Table) -> None:
    """Whether the columns of the joins are new. InvalidArgument otherwise."""
    every = [*table.names, *names, TIME, ENTITY]
    if twice := {name for name in names if every.count(name) > 1}:
        raise InvalidArgument(f"the table would have column {min(twice)!r} twice; give names to the features")


def ordered(rows: Labelled) -> Labelled:
    """The rows by event time, then entity key, then as they came: so that equal rows make an equal file."""
    codes = np.unique(rows.entities.astype(str), return_inverse=True)[1]
    places = np.lexsort((codes, rows.times))
    return Labelled(rows.table.take(places), rows.times[places], rows.entities[places])
