"""How do rows travel? ``Table`` holds rows in memory, ``encode`` and ``decode`` turn it into the wire's ``Frame`` and back.

A table is one matrix of numbers and a dictionary-coded column a text, which is also how a packed frame lies on the wire:
decoding copies nothing. NaN is the null of a number, code -1 the null of a text; infinity is left to the signature's check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.v1.common_pb2 import NUMBER_TYPE_FLOAT32, NUMBER_TYPE_FLOAT64, Blocks, Frame, TextColumn

Numbers = NDArray[np.floating[Any]]
Codes = NDArray[np.int32]
_FLOAT32: np.dtype[np.float32] = np.dtype("<f4")
_FLOAT64: np.dtype[np.float64] = np.dtype("<f8")
_INT32: np.dtype[np.int32] = np.dtype("<i4")


@dataclass(frozen=True, slots=True)
class Text:
    """A text column: ``codes[i]`` is an index into ``values``, or -1 for null."""

    codes: Codes
    values: tuple[str, ...]

    @classmethod
    def of(cls, items: Iterable[str | None]) -> Text:
        """The column of these texts, its values in order of first appearance."""
        seen: dict[str, int] = {}
        codes = [-1 if item is None else seen.setdefault(item, len(seen)) for item in items]
        return cls(np.array(codes, dtype=_INT32), tuple(seen))

    def decoded(self) -> NDArray[np.object_]:
        """The texts themselves, ``None`` for null."""
        return np.array((*self.values, None), dtype=object)[self.codes]

    def take(self, rows: NDArray[np.integer[Any]]) -> Text:
        """The column of these rows."""
        return Text(self.codes[rows], self.values)

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of named columns: ``numbers`` is rows x ``number_names``, ``texts`` a column a name.

    >>> t = Table.of({"miles": [100, None], "carrier": ["UA", None]})
    >>> t.rows, t.names
    (2, ('miles', 'carrier'))
    """

    rows: int
    number_names: tuple[str, ...] = ()
    numbers: Numbers = field(default_factory=lambda: np.empty((0, 0)))
    texts: Mapping[str, Text] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any] | NDArray[Any] | Text]) -> Table:
        """The table of these columns; texts are told from numbers by their values. InvalidArgument when lengths differ."""
        texts = {name: found for name, values in columns.items() if (found := _as_text(values)) is not None}
        names = tuple(name for name in columns if name not in texts)
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise InvalidArgument(f"columns differ in length: {sorted(lengths)}")
        rows = lengths.pop() if lengths else 0
        matrix = np.empty((rows, len(names)), dtype=_FLOAT64)
        for place, name in enumerate(names):
            matrix[:, place] = _as_numbers(name, columns[name])
        return cls(rows, names, matrix, texts)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns: numbers first, in matrix order, then texts."""
        return (*self.number_names, *self.texts)

    def column(self, name: str) -> NDArray[Any]:
        """One column: floats, or texts as objects. InvalidArgument when there is none of that name."""
        if name in self.texts:
            return self.texts[name].decoded()
        try:
            return self.numbers[:, self.number_names.index(name)]
        except ValueError:
            raise InvalidArgument(f"no column {name!r}; there are {', '.join(self.names) or 'none'}") from None

    def select(self, names: Iterable[str]) -> Table:
        """The table of these columns, numbers and texts each in the order given. InvalidArgument when one is missing."""
        wanted = list(names)
        if missing := [name for name in wanted if name not in self.texts and name not in self.number_names]:
            raise InvalidArgument(f"no column {', '.join(map(repr, missing))}; there are {', '.join(self.names) or 'none'}")
        numbers = tuple(name for name in wanted if name not in self.texts)
        texts = {name: self.texts[name] for name in wanted if name in self.texts}
        if numbers == self.number_names:
            return Table(self.rows, numbers, self.numbers, texts)
        places = [self.number_names.index(name) for name in numbers]
        return Table(self.rows, numbers, self.numbers[:, places], texts)

    def without(self, names: Iterable[str]) -> Table:
        """The table without these columns."""
        gone = set(names)
        return self.select(name for name in self.names if name not in gone)

    def take(self, rows: NDArray[np.integer[Any]]) -> Table:
        """The table of these rows."""
        return Table(len(rows), self.number_names, self.numbers[rows], {n: t.take(rows) for n, t in self.texts.items()})

    def slice(self, start: int, stop: int) -> Table:
        """Rows start..stop, without a copy of the numbers."""
        texts = {n: Text(t.codes[start:stop], t.values) for n, t in self.texts.items()}
        return Table(max(0, min(stop, self.rows) - start), self.number_names, self.numbers[start:stop], texts)

    def merged(self, other: Table) -> Table:
        """Both tables side by side. InvalidArgument when rows differ or a column is in both."""
        if self.rows != other.rows:
            raise InvalidArgument(f"tables of {self.rows} and {other.rows} rows cannot stand side by side")
        if twice := set(self.names) & set(other.names):
            raise InvalidArgument(f"column {', '.join(sorted(map(repr, twice)))} is given twice")
        numbers = np.concatenate([_matrix(self), _matrix(other)], axis=1)
        return Table(self.rows, (*self.number_names, *other.number_names), numbers, {**self.texts, **other.texts})

    @classmethod
    def concat(cls, tables: Sequence[Table]) -> Table:
        """All rows one after the other. InvalidArgument when the columns differ."""
        if not tables:
            return cls(0)
        first = tables[0]
        if len(tables) == 1:
            return first
        for table in tables[1:]:
            if set(table.number_names) != set(first.number_names) or set(table.texts) != set(first.texts):
                raise InvalidArgument(f"columns differ: {first.names} and {table.names}")
        numbers = np.concatenate([_matrix(t.select((*first.number_names, *first.texts))) for t in tables])
        texts = {name: _stacked([t.texts[name] for t in tables]) for name in first.texts}
        return cls(sum(t.rows for t in tables), first.number_names, numbers, texts)

    def to_rows(self) -> Iterator[dict[str, float | str | None]]:
        """Rows as plain values: NaN becomes ``None``."""
        columns: dict[str, list[Any]] = {}
        for place, name in enumerate(self.number_names):
            values = self.numbers[:, place].astype(float)
            columns[name] = [None if np.isnan(v) else v for v in values.tolist()]
        for name, text in self.texts.items():
            columns[name] = text.decoded().tolist()
        for row in range(self.rows):
            yield {name: values[row] for name, values in columns.items()}


def encode(table: Table) -> Frame:
    """The packed frame of a table."""
    wide = table.numbers.dtype == _FLOAT64
    numbers = np.ascontiguousarray(table.numbers, dtype=_FLOAT64 if wide else _FLOAT32)
    blocks = Blocks(
        rows=table.rows,
        number_names=table.number_names,
        numbers=numbers.tobytes() if table.number_names else b"",
        number_type=NUMBER_TYPE_FLOAT64 if wide else NUMBER_TYPE_FLOAT32,
        texts=[encode_text(text, name) for name, text in table.texts.items()],
    )
    return Frame(blocks=blocks)


def encode_text(text: Text, name: str = "") -> TextColumn:
    """The wire's column of a text column."""
    return TextColumn(name=name, codes=np.ascontiguousarray(text.codes, dtype=_INT32).tobytes(), values=text.values)


def decode(frame: Frame, *, number_names: Sequence[str] = ()) -> Table:
    """The table of a frame; ``number_names`` names the matrix of a frame that names its columns by a signature's digest.

    InvalidArgument when the bytes do not fit the rows, a code has no value, a name comes twice or plain rows do not agree.
    """
    if frame.WhichOneof("encoding") == "plain":
        return _decode_plain([dict(row) for row in frame.plain.rows])
    blocks = frame.blocks
    names = tuple(blocks.number_names) or (tuple(number_names) if blocks.numbers or blocks.signature_digest else ())
    dtype: np.dtype[Any] = _FLOAT32 if blocks.number_type == NUMBER_TYPE_FLOAT32 else _FLOAT64
    if len(blocks.numbers) != blocks.rows * len(names) * dtype.itemsize:
        raise InvalidArgument(
            f"{len(blocks.numbers)} bytes of numbers do not make {blocks.rows} rows x {len(names)} columns"
            f" of {dtype.itemsize} bytes each"
        )
    numbers: Numbers = np.frombuffer(blocks.numbers, dtype=dtype).reshape(blocks.rows, len(names))
    texts = {column.name: decode_text(column, blocks.rows) for column in blocks.texts}
    if len(set(names)) + len(texts) != len(names) + len(blocks.texts) or not texts.keys().isdisjoint(names):
        raise InvalidArgument("a column is given twice")
    return Table(blocks.rows, names, numbers, texts)


def decode_text(column: TextColumn, rows: int) -> Text:
    """The text column of a wire column. InvalidArgument when its codes do not fit."""
    if len(column.codes) != rows * 4:
        raise InvalidArgument(f"text column {column.name!r}: {len(column.codes)} bytes of codes do not make {rows} rows")
    codes = np.frombuffer(column.codes, dtype=_INT32)
    if rows and (codes.max() >= len(column.values) or codes.min() < -1):
        raise InvalidArgument(f"text column {column.name!r}: a code is not among its {len(column.values)} values")
    return Text(codes, tuple(column.values))


def _decode_plain(rows: list[dict[str, Any]]) -> Table:
    """Rows as objects: a column that a row lacks is null there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
    for name, values in columns.items():
        kinds = {type(v) for v in values if v is not None}
        if kinds - {float, bool, str} or (str in kinds and len(kinds) > 1):
            raise InvalidArgument(f"column {name!r}: every value is a number or every value is a text")
    return Table(rows=len(rows)) if not names else Table.of(columns)


def _as_text(values: Sequence[Any] | NDArray[Any] | Text) -> Text | None:
    if isinstance(values, Text):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind not in "OUS":
        return None
    first = next((v for v in values if v is not None), None)
    if not isinstance(first, str):
        return None
    if wrong := next((v for v in values if v is not None and not isinstance(v, str)), None):
        raise InvalidArgument(f"a text column holds {wrong!r}")
    return Text.of(None if v is None else str(v) for v in values)


def _as_numbers(name: str, values: Sequence[Any] | NDArray[Any] | Text) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=_FLOAT64)  # None becomes NaN
    except (TypeError, ValueError):
        raise InvalidArgument(f"column {name!r}: every value is a number or every value is a text") from None


def _matrix(table: Table) -> Numbers:
    return table.numbers if table.number_names else np.empty((table.rows, 0))


def _stacked(columns: Sequence[Text]) -> Text:
    index: dict[str, int] = {}
    parts = []
    for column in columns:
        places = [index.setdefault(value, len(index)) for value in column.values]
        parts.append(np.array([*places, -1], dtype=_INT32)[column.codes])
    return Text(np.concatenate(parts), tuple(index))
