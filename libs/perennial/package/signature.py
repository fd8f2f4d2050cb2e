"""What does a model take and give, and do these rows fit it?

A signature is named by its digest: sha256 over the canonical JSON of columns, task and classes. ``Signature.check`` is on
the path of every prediction, so rows that come in signature order and hold no null cost one pass over the numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.frames import Table, Text
from perennial.v1 import common_pb2 as pb

_LARGEST = float(np.finfo(np.float32).max)


class ColumnType(StrEnum):
    """Kind of the values in a column."""

    NUMBER = "number"
    TEXT = "text"


class Pii(StrEnum):
    """What happens to a column of personal data before anything is stored."""

    NONE = "none"
    HASH = "hash"
    DROP = "drop"


class Task(StrEnum):
    """What a model predicts."""

    REGRESSION = "regression"
    CLASSIFICATION = "classification"


_TYPES = {ColumnType.NUMBER: pb.COLUMN_TYPE_NUMBER, ColumnType.TEXT: pb.COLUMN_TYPE_TEXT}
_PII = {Pii.NONE: pb.PII_POLICY_UNSPECIFIED, Pii.HASH: pb.PII_POLICY_HASH, Pii.DROP: pb.PII_POLICY_DROP}
_TASKS = {Task.REGRESSION: pb.TASK_REGRESSION, Task.CLASSIFICATION: pb.TASK_CLASSIFICATION}


@dataclass(frozen=True, slots=True)
class Column:
    """One input column; ``nullable`` says whether nulls (NaN for a number) are accepted."""

    name: str
    type: ColumnType
    nullable: bool = True
    pii: Pii = Pii.NONE


@dataclass(frozen=True)
class Signature:
    """Input columns in order, the task, and the classes as text in the order of the probabilities.

    >>> s = Signature.of([Column("miles", ColumnType.NUMBER, nullable=False)])
    >>> s.check(Table.of({"miles": [1.0]})).rows
    1
    """

    columns: tuple[Column, ...]
    task: Task = Task.REGRESSION
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, columns: Iterable[Column], task: Task = Task.REGRESSION, classes: Iterable[str] = ()) -> Signature:
        """The signature; InvalidArgument when it is none: no column, a name twice or empty, classes that do not fit the task."""
        signature = cls(tuple(columns), task, tuple(classes))
        names = [column.name for column in signature.columns]
        if not names or not all(names):
            raise InvalidArgument("a signature needs at least one column, and every column a name")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidArgument(f"a signature names column {', '.join(map(repr, twice))} twice")
        if (task is Task.CLASSIFICATION) != (len(signature.classes) > 1):
            raise InvalidArgument(f"a {task} cannot have {len(signature.classes)} classes")
        if len(set(signature.classes)) != len(signature.classes):
            raise InvalidArgument(f"a class is named twice: {signature.classes}")
        return signature

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical form, hex."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        """The number columns in signature order: columns of the graph's input ``numbers``."""
        return tuple(c.name for c in self.columns if c.type is ColumnType.NUMBER)

    @cached_property
    def text_names(self) -> tuple[str, ...]:
        """The text columns in signature order: columns of the graph's input ``texts``."""
        return tuple(c.name for c in self.columns if c.type is ColumnType.TEXT)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Columns of the outputs: ``prediction``, or ``label`` and ``p:<class>`` a class."""
        if self.task is Task.REGRESSION:
            return ("prediction",)
        return ("label", *self.probability_names)

    @cached_property
    def probability_names(self) -> tuple[str, ...]:
        """``p:<class>`` a class, in order."""
        return tuple(f"p:{name}" for name in self.classes)

    @cached_property
    def _required_numbers(self) -> NDArray[np.intp]:
        numbers = [c for c in self.columns if c.type is ColumnType.NUMBER]
        return np.array([i for i, c in enumerate(numbers) if not c.nullable], dtype=np.intp)

    @cached_property
    def _required_texts(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.type is ColumnType.TEXT and not c.nullable)

    def check(self, table: Table) -> Table:
        """The table's columns in signature order.

        InvalidArgument names a column that is missing, unknown or of the wrong type, and the first row that holds a null
        where none is accepted, an infinity, or a number too large for 32 bits.
        """
        if table.number_names != self.number_names or tuple(table.texts) != self.text_names:
            table = self._arranged(table)
        if self.number_names and table.rows:
            good = np.abs(table.numbers) <= _LARGEST
            if not good.all():
                self._check_numbers(table.numbers, good)
        for name in self._required_texts:
            codes = table.texts[name].codes
            if len(codes) and codes.min() < 0:
                raise InvalidArgument(f"column {name!r}, row {int(np.argmax(codes < 0))}: null, and the signature accepts none")
        return table

    def _check_numbers(self, numbers: NDArray[Any], good: NDArray[np.bool_]) -> None:
        """Every number that is not good must be a null, and where one is accepted."""
        null = np.isnan(numbers)
        if not (wrong := good | null).all():
            row, place = np.argwhere(~wrong)[0]
            raise InvalidArgument(
                f"column {self.number_names[place]!r}, row {row}: {numbers[row, place]} is not a finite 32-bit number"
            )
        required = self._required_numbers
        if len(required) and (found := null[:, required]).any():
            row, place = np.argwhere(found)[0]
            name = self.number_names[required[place]]
            raise InvalidArgument(f"column {name!r}, row {row}: null, and the signature accepts none")

    def _arranged(self, table: Table) -> Table:
        """The columns in order; a column of nothing but nulls has whatever type is wanted."""
        known = {c.name for c in self.columns}
        given = set(table.names)
        if missing := [c.name for c in self.columns if c.name not in given]:
            raise InvalidArgument(f"column {_listed(missing)} is missing; the signature has {', '.join(sorted(known))}")
        if unknown := sorted(given - known):
            raise InvalidArgument(f"column {_listed(unknown)} is unknown; the signature has {', '.join(sorted(known))}")
        numbers = np.empty((table.rows, len(self.number_names)), dtype=table.numbers.dtype)
        places = {name: place for place, name in enumerate(table.number_names)}
        for place, name in enumerate(self.number_names):
            numbers[:, place] = table.numbers[:, places[name]] if name in places else self._nulls(table, name)
        texts = {name: table.texts[name] if name in table.texts else self._null_text(table, name) for name in self.text_names}
        return Table(table.rows, self.number_names, numbers, texts)

    @staticmethod
    def _nulls(table: Table, name: str) -> float:
        if (table.texts[name].codes >= 0).any():
            raise InvalidArgument(f"column {name!r} must hold numbers and holds texts")
        return float("nan")

    @staticmethod
    def _null_text(table: Table, name: str) -> Text:
        if not np.isnan(table.column(name)).all():
            raise InvalidArgument(f"column {name!r} must hold texts and holds numbers")
        return Text(np.full(table.rows, -1, dtype=np.int32), ())

    def to_json(self) -> dict[str, Any]:
        """The canonical form, without the digest."""
        columns = [{"name": c.name, "type": str(c.type), "nullable": c.nullable, "pii": str(c.pii)} for c in self.columns]
        return {"columns": columns, "task": str(self.task), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        """The signature of a canonical form; InvalidArgument when it is none."""
        try:
            columns = [
                Column(str(c["name"]), ColumnType(c["type"]), bool(c["nullable"]), Pii(c.get("pii", "none")))
                for c in data["columns"]
            ]
            return cls.of(columns, Task(data["task"]), [str(name) for name in data.get("classes", [])])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"not a signature: {error!r}") from None

    def to_proto(self) -> pb.Signature:
        """The wire's signature, digest filled in."""
        columns = [pb.Column(name=c.name, type=_TYPES[c.type], nullable=c.nullable, pii=_PII[c.pii]) for c in self.columns]
        return pb.Signature(columns=columns, task=_TASKS[self.task], classes=self.classes, digest=self.digest)

    @classmethod
    def from_proto(cls, message: pb.Signature) -> Signature:
        """The signature of a message; InvalidArgument when it is none or its digest is another's."""
        columns = [Column(c.name, column_type_from(c.type, c.name), c.nullable, _pii_from(c.pii)) for c in message.columns]
        signature = cls.of(columns, task_from(message.task), message.classes)
        if message.digest and message.digest != signature.digest:
            raise InvalidArgument(f"the signature's digest is {signature.digest}, not {message.digest}")
        return signature


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def column_type_from(value: int, name: str = "") -> ColumnType:
    """The column type of the wire's; InvalidArgument when none is given."""
    for kind, number in _TYPES.items():
        if number == value:
            return kind
    raise InvalidArgument(f"column {name!r}: type must be number or text")


def task_from(value: int) -> Task:
    """The task of the wire's; InvalidArgument when none is given."""
    for task, number in _TASKS.items():
        if number == value:
            return task
    raise InvalidArgument("task must be regression or classification")


def task_to(task: Task) -> pb.Task.ValueType:
    """The wire's task."""
    return _TASKS[task]


def _pii_from(value: int) -> Pii:
    return next((pii for pii, number in _PII.items() if number == value), Pii.NONE)
