"""Which bins do rows fall into? The hot part of folding: all number columns of a table in a handful of numpy calls."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.stats.cells import CELLS, ORDER
from perennial.stats.columns import (
    HEAD,
    MISSING,
    MISTYPED,
    NEGATIVE_INFINITY,
    POSITIVE_INFINITY,
    RARE,
    SUM_LIMIT,
    SUM_UNITS,
    UNSEEN,
    Counts,
    Grid,
    NumberColumn,
    TextColumn,
)
from perennial.stats.rows import Rows

CHUNK = 4096
MOST_UNSEEN = 16


def fold_blocks(grid: Grid, rows: Rows, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts over one grid's bins, a row a block of time, oldest first: what thresholds are calibrated on."""
    binner = Binner([grid])
    order = np.argsort(blocks, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(blocks[order])) + 1, rows.rows)
    starts = np.concatenate([[0], ends[:-1]])
    parts = [binner.counted([Taken.of(rows, order[a:b])], {})[0] for a, b in zip(starts, ends, strict=True)]
    return np.array(parts)


class Binner:
    """Grids made ready, side by side: one look-up table for all number columns, an index for each text column."""

    def __init__(self, grids: Sequence[Grid]) -> None:
        firsts = np.concatenate([[0], np.cumsum([grid.bins for grid in grids])]).tolist()
        self.bins: int = firsts[-1]
        self.sides = tuple(_Side.of(grid, first) for grid, first in zip(grids, firsts, strict=False))
        numbers = [column for grid in grids for column in grid.numbers]
        self.starts = np.array([start for side in self.sides for start in side.starts], np.int64)
        self.centres = np.array([c.centre for c in numbers], np.float32)
        self.units = np.array([SUM_UNITS / c.scale for c in numbers])
        self.offsets = np.arange(len(numbers), dtype=np.uint32) * np.uint32(CELLS)
        self.table = _look_up(numbers, self.starts)

    def counted(self, tables: Sequence[Rows], unseen: dict[str, dict[str, int]]) -> tuple[Counts, Counts]:
        """Counts over all bins and the number columns' sums of tables that go with the grids, row by row; texts never seen
        before are noted in ``unseen``.
        """
        rows = tables[0].rows
        texts = [bins for side, table in zip(self.sides, tables, strict=True) for bins in side.text_bins(table, unseen)]
        counts, sums = np.zeros(self.bins, np.int64), np.zeros(len(self.starts), np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, rows, CHUNK):
                distance = self._matrix(tables, start, min(start + CHUNK, rows))
                distance -= self.centres
                found = self.table.take((distance.view(np.uint32) >> 16) + self.offsets).ravel()
                places = np.concatenate([found, *(bins[start : start + CHUNK] for bins in texts)]) if texts else found
                counts += np.bincount(places, minlength=self.bins)
                sums += self._sums(distance)
        missing, negative, positive = (counts[self.starts + at] for at in (MISSING, NEGATIVE_INFINITY, POSITIVE_INFINITY))
        sums += (missing + negative - positive) * SUM_LIMIT
        for start in self._absent(tables):
            counts[start + MISTYPED] = counts[start + MISSING]
            counts[start + MISSING] = 0
        return counts, sums

    def _matrix(self, tables: Sequence[Rows], start: int, stop: int) -> NDArray[np.float32]:
        """The number columns of some rows in the profile's order, as models see them; NaN where a table lacks one."""
        matrix = np.empty((stop - start, len(self.starts)), np.float32)
        at = 0
        for side, table in zip(self.sides, tables, strict=True):
            part = matrix[:, at : at + len(side.names)]
            at += len(side.names)
            if table.number_names == side.names:
                if side.names:
                    part[:] = table.numbers[start:stop]
                continue
            for place, name in enumerate(side.names):
                have = name in table.number_names
                part[:, place] = table.numbers[start:stop, table.number_names.index(name)] if have else np.nan
        return matrix

    def _sums(self, distance: NDArray[np.float32]) -> Counts:
        """Fixed-point sums; a null counts as the lower limit here and is taken out again by ``counted``."""
        units = distance * self.units
        np.fmax(units, -SUM_LIMIT, out=units)
        np.fmin(units, SUM_LIMIT, out=units)
        np.rint(units, out=units)
        return np.asarray(units.astype(np.int64).sum(axis=0))

    def _absent(self, tables: Sequence[Rows]) -> list[int]:
        """First bins of the number columns that the tables do not have as numbers."""
        return [
            start
            for side, table in zip(self.sides, tables, strict=True)
            if table.number_names != side.names
            for name, start in zip(side.names, side.starts, strict=True)
            if name not in table.number_names
        ]


@dataclass(frozen=True, slots=True)
class _Side:
    """One grid's columns: names and first bins of the numbers; name, first bin and index of each text."""

    names: tuple[str, ...]
    starts: tuple[int, ...]
    texts: tuple[tuple[str, int, Mapping[str, int]], ...]

    @classmethod
    def of(cls, grid: Grid, first: int) -> _Side:
        starts = tuple(first + start for start in grid.starts)
        size = len(grid.numbers)
        texts = tuple((column.name, start, _index(column)) for column, start in zip(grid.texts, starts[size:], strict=False))
        return cls(tuple(column.name for column in grid.numbers), starts[:size], texts)

    def text_bins(self, rows: Rows, unseen: dict[str, dict[str, int]]) -> list[NDArray[np.int64]]:
        """Bin of each row in each text column; a column of nulls that came as numbers is missing, any other is mistyped."""
        return [self._text(rows, name, start, index, unseen) for name, start, index in self.texts]

    @staticmethod
    def _text(
        rows: Rows, name: str, start: int, index: Mapping[str, int], unseen: dict[str, dict[str, int]]
    ) -> NDArray[np.int64]:
        if name not in rows.texts:
            if name in rows.number_names:
                empty = np.isnan(rows.numbers[:, rows.number_names.index(name)])
                return np.where(empty, start + MISSING, start + MISTYPED)
            return np.full(rows.rows, start + MISTYPED)
        column = rows.texts[name]
        bins = [index.get(value, UNSEEN) for value in column.values]
        if UNSEEN in bins:
            used = np.bincount(column.codes[column.codes >= 0], minlength=len(bins)).tolist()
            new = {v: n for v, b, n in zip(column.values, bins, used, strict=True) if b == UNSEEN and n}
            if new:
                unseen[name] = least_texts(new)
        return np.array([*bins, MISSING])[column.codes] + start


def _index(column: TextColumn) -> dict[str, int]:
    """Bin of each text that the reference had."""
    return {value: HEAD + place for place, value in enumerate(column.categories)} | dict.fromkeys(column.rare, RARE)


def _look_up(numbers: Sequence[NumberColumn], starts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Bin of each raw cell of each column, one column after the other."""
    table = np.empty((len(numbers), CELLS), np.int32)
    raw = np.arange(CELLS)
    not_a_number = ((raw & 0x7F80) == 0x7F80) & ((raw & 0x7F) != 0)
    for place, column in enumerate(numbers):
        bins = column.look_up[ORDER]
        bins[not_a_number] = MISSING
        bins[0x7F80], bins[0xFF80] = POSITIVE_INFINITY, NEGATIVE_INFINITY
        table[place] = bins + starts[place]
    return table.ravel()


@dataclass(frozen=True, slots=True)
class TakenText:
    """A text column of some rows."""

    codes: NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """Some rows of a table."""

    rows: int
    number_names: tuple[str, ...]
    numbers: NDArray[Any]
    texts: Mapping[str, TakenText]

    @classmethod
    def of(cls, rows: Rows, chosen: NDArray[np.int64]) -> Taken:
        """The rows of these places."""
        texts = {name: TakenText(t.codes[chosen], t.values) for name, t in rows.texts.items()}
        return cls(len(chosen), rows.number_names, rows.numbers[chosen] if rows.number_names else rows.numbers, texts)


def least_texts(seen: Mapping[str, int]) -> dict[str, int]:
    """The texts of least checksum: a sample that does not depend on order, and whose counts stay exact under merging."""
    if len(seen) <= MOST_UNSEEN:
        return dict(seen)
    kept = sorted(seen, key=lambda value: (zlib.crc32(value.encode()), value))[:MOST_UNSEEN]
    return {value: seen[value] for value in kept}
