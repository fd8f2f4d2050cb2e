"""What has a variant seen? A fold: counts over a reference's bins for all columns at once, exact and mergeable.

A fold of rows is the same whatever batches and order they came in, because it holds integers only; ``merged`` is
associative and commutative, and an empty fold changes nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import DataLoss, InvalidArgument
from perennial.stats.cells import CELLS, ORDER, raw_cells
from perennial.stats.columns import (
    HEAD,
    MISSING,
    MISTYPED,
    NEGATIVE_INFINITY,
    POSITIVE_INFINITY,
    SUM_LIMIT,
    SUM_UNITS,
    UNSEEN,
    Counts,
    Grid,
)
from perennial.stats.reference import Profile
from perennial.stats.rows import Rows

CHUNK = 4096
MOST_UNSEEN = 16
Unseen = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Fold:
    """Counts of some rows over a profile's bins (``counts``: inputs, then outputs), fixed-point sums of the number columns,
    and a sample of texts the reference never had: of each column the 16 of least checksum, with exact counts."""

    profile: int
    rows: int
    counts: Counts
    sums: Counts
    unseen: Unseen = field(default_factory=dict)

    def merged(self, other: Fold) -> Fold:
        """Both together. InvalidArgument when they were folded over different profiles."""
        if self.profile != other.profile or self.counts.shape != other.counts.shape:
            raise InvalidArgument(f"folds over profiles {self.profile:08x} and {other.profile:08x} do not add up")
        unseen = _merged_unseen(self.unseen, other.unseen)
        return Fold(self.profile, self.rows + other.rows, self.counts + other.counts, self.sums + other.sums, unseen)

    def to_bytes(self) -> bytes:
        """Compact bytes: only bins that hold something."""
        places = np.flatnonzero(self.counts)
        held = self.counts[places]
        width = 4 if int(held.max(initial=0)) < 2**32 else 8
        texts = [part for column, seen in sorted(self.unseen.items()) for v, n in sorted(seen.items()) for part in (column, v, n)]
        words = b"".join(_word(part) for part in texts)
        head = struct.pack(
            "<4sIQIIIBI", b"PRF1", self.profile, self.rows, len(self.counts), len(places), len(self.sums), width, len(words)
        )
        body = places.astype("<u4").tobytes() + held.astype(f"<u{width}").tobytes() + self.sums.astype("<i8").tobytes() + words
        return head + zlib.compress(body, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Fold:
        """The fold that ``to_bytes`` wrote. DataLoss when the bytes are not whole."""
        try:
            magic, profile, rows, bins, held, sums, width, words = struct.unpack_from("<4sIQIIIBI", data)
            inflater = zlib.decompressobj()
            size = held * (4 + width) + sums * 8 + words
            body = inflater.decompress(data[_HEAD_SIZE:], size + 1)
        except (struct.error, zlib.error) as error:
            raise DataLoss(f"a fold cannot be read: {error}") from None
        if magic != b"PRF1" or width not in (4, 8) or len(body) != size or max(bins, held, sums) > 2**24:
            raise DataLoss("a fold cannot be read: it is cut short or of another format")
        places = np.frombuffer(body, "<u4", held)
        if held and int(places.max()) >= bins:
            raise DataLoss("a fold cannot be read: a bin beyond the last")
        counts = np.zeros(bins, np.int64)
        counts[places] = np.frombuffer(body, f"<u{width}", held, held * 4)
        place = held * (4 + width)
        total = np.frombuffer(body, "<i8", sums, place).astype(np.int64)
        return cls(profile, rows, counts, total, _unseen_from(body[place + sums * 8 :]))


_HEAD_SIZE = struct.calcsize("<4sIQIIIBI")


def merge_folds(folds: list[Fold]) -> Fold:
    """All together. InvalidArgument when there are none or their profiles differ."""
    if not folds:
        raise InvalidArgument("there is no fold to merge")
    whole = folds[0]
    for fold in folds[1:]:
        whole = whole.merged(fold)
    return whole


class Folder:
    """Folds rows over a profile. Building one costs milliseconds: keep it as long as the model version is served."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.parts = (_GridFolder(profile.inputs), _GridFolder(profile.outputs))
        self.split = profile.inputs.bins

    def empty(self) -> Fold:
        """The fold of no rows."""
        bins, sums = (sum(p.bins for p in self.parts), sum(len(p.names) for p in self.parts))
        return Fold(self.profile.checksum, 0, np.zeros(bins, np.int64), np.zeros(sums, np.int64))

    def fold(self, inputs: Rows, outputs: Rows | None = None) -> Fold:
        """The fold of these rows; columns that the profile lacks are passed over, ones that the rows lack are mistyped.

        Without ``outputs`` nothing is counted for them.
        """
        unseen: dict[str, dict[str, int]] = {}
        counts, sums = self.parts[0].counted(inputs, unseen)
        if outputs is None:
            more, further = np.zeros(self.parts[1].bins, np.int64), np.zeros(len(self.parts[1].names), np.int64)
        else:
            more, further = self.parts[1].counted(outputs, unseen)
        joined, total = np.concatenate([counts, more]), np.concatenate([sums, further])
        return Fold(self.profile.checksum, inputs.rows, joined, total, unseen)

    def fold_panes(self, panes: NDArray[np.int64], inputs: Rows, outputs: Rows | None = None) -> dict[int, Fold]:
        """A fold a pane: ``panes[i]`` is the pane of row i. One pass where all rows share a pane."""
        if len(panes) != inputs.rows:
            raise InvalidArgument(f"{len(panes)} panes do not fit {inputs.rows} rows")
        found = np.unique(panes)
        if len(found) == 1:
            return {int(found[0]): self.fold(inputs, outputs)}
        result = {}
        for pane in found.tolist():
            chosen = np.flatnonzero(panes == pane)
            result[pane] = self.fold(_Taken.of(inputs, chosen), None if outputs is None else _Taken.of(outputs, chosen))
        return result


def fold_blocks(grid: Grid, rows: Rows, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts over one grid's bins, a row a block of time, oldest first: what thresholds are calibrated on."""
    folder = _GridFolder(grid)
    order = np.argsort(blocks, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(blocks[order])) + 1, rows.rows)
    starts = np.concatenate([[0], ends[:-1]])
    parts = [folder.counted(_Taken.of(rows, order[a:b]), {})[0] for a, b in zip(starts, ends, strict=True)]
    return np.array(parts)


class _GridFolder:
    """One grid made ready: the look-up table of all number columns, the indexes of all text columns."""

    def __init__(self, grid: Grid) -> None:
        self.names = tuple(column.name for column in grid.numbers)
        self.bins = grid.bins
        self.starts = grid.starts
        self.centres = np.array([c.centre for c in grid.numbers], np.float32)
        self.units = np.array([SUM_UNITS / c.scale for c in grid.numbers])
        self.offsets = np.arange(len(grid.numbers), dtype=np.uint32) * np.uint32(CELLS)
        self.table = _look_up(grid)
        self.texts = [
            (c.name, start, {**{v: HEAD + i for i, v in enumerate(c.categories)}, **dict.fromkeys(c.rare, UNSEEN + 1)})
            for c, start in zip(grid.texts, grid.starts[len(grid.numbers) :], strict=False)
        ]

    def counted(self, rows: Rows, unseen: dict[str, dict[str, int]]) -> tuple[Counts, Counts]:
        """Counts over all bins and the number columns' sums; texts never seen before are noted in ``unseen``."""
        numbers, absent = self._matrix(rows)
        texts = [self._text_bins(rows, name, start, index, unseen) for name, start, index in self.texts]
        counts = np.zeros(self.bins, np.int64)
        sums = np.zeros(len(self.names), np.int64)
        for start in range(0, rows.rows, CHUNK):
            part = numbers[start : start + CHUNK]
            found = self.table[raw_cells(part, self.centres) + self.offsets].ravel()
            places = np.concatenate([found, *(t[start : start + CHUNK] for t in texts)]) if texts else found
            counts += np.bincount(places, minlength=self.bins)
            sums += self._sums(part)
        heads = counts[list(self.starts[: len(self.names)])] if self.names else 0
        infinite = np.array([counts[s + POSITIVE_INFINITY] - counts[s + NEGATIVE_INFINITY] for s in self.starts[: len(self.names)]])
        sums += (heads - infinite) * SUM_LIMIT if self.names else 0
        for place in absent:
            counts[self.starts[place] + MISTYPED] = counts[self.starts[place] + MISSING]
            counts[self.starts[place] + MISSING] = 0
        return counts, sums

    def _sums(self, part: NDArray[Any]) -> Counts:
        """Fixed-point sums; a null counts as the lower limit here and is taken out again by ``counted``."""
        with np.errstate(over="ignore", invalid="ignore"):
            distance = (part.astype(np.float32, copy=False) - self.centres) * self.units
        np.fmax(distance, -SUM_LIMIT, out=distance)
        np.fmin(distance, SUM_LIMIT, out=distance)
        np.rint(distance, out=distance)
        return distance.astype(np.int64).sum(axis=0)

    def _matrix(self, rows: Rows) -> tuple[NDArray[Any], list[int]]:
        """The number columns in the profile's order, and which of them the rows do not have as numbers."""
        if rows.number_names == self.names:
            return rows.numbers.reshape(rows.rows, len(self.names)), []
        places = {name: place for place, name in enumerate(rows.number_names)}
        matrix = np.full((rows.rows, len(self.names)), np.nan, np.float32)
        for place, name in enumerate(self.names):
            if name in places:
                with np.errstate(over="ignore"):
                    matrix[:, place] = rows.numbers[:, places[name]]
        return matrix, [place for place, name in enumerate(self.names) if name not in places]

    @staticmethod
    def _text_bins(
        rows: Rows, name: str, start: int, index: dict[str, int], unseen: dict[str, dict[str, int]]
    ) -> NDArray[np.int64]:
        """Bin of each row in one text column; a column of nulls that came as numbers is missing, any other is mistyped."""
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
                unseen[name] = _least(new)
        return np.array([*bins, MISSING])[column.codes] + start


def _look_up(grid: Grid) -> NDArray[np.int32]:
    """Bin of each raw cell of each column, one column after the other."""
    table = np.empty((len(grid.numbers), CELLS), np.int32)
    raw = np.arange(CELLS)
    not_a_number = ((raw & 0x7F80) == 0x7F80) & ((raw & 0x7F) != 0)
    for place, column in enumerate(grid.numbers):
        bins = column.look_up[ORDER]
        bins[not_a_number] = MISSING
        bins[0x7F80], bins[0xFF80] = POSITIVE_INFINITY, NEGATIVE_INFINITY
        table[place] = bins + grid.starts[place]
    return table.ravel()


@dataclass(frozen=True, slots=True)
class _TakenText:
    codes: NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Taken:
    """Some rows of a table."""

    rows: int
    number_names: tuple[str, ...]
    numbers: NDArray[Any]
    texts: Mapping[str, _TakenText]

    @classmethod
    def of(cls, rows: Rows, chosen: NDArray[np.int64]) -> _Taken:
        texts = {name: _TakenText(t.codes[chosen], t.values) for name, t in rows.texts.items()}
        return cls(len(chosen), rows.number_names, rows.numbers[chosen] if rows.number_names else rows.numbers, texts)


def _least(seen: Mapping[str, int]) -> dict[str, int]:
    """The texts of least checksum: a sample that does not depend on order, and whose counts stay exact under merging."""
    if len(seen) <= MOST_UNSEEN:
        return dict(seen)
    kept = sorted(seen, key=lambda value: (zlib.crc32(value.encode()), value))[:MOST_UNSEEN]
    return {value: seen[value] for value in kept}


def _merged_unseen(first: Unseen, second: Unseen) -> Unseen:
    if not first or not second:
        return first or second
    merged = {}
    for name in {**first, **second}:
        one, other = first.get(name, {}), second.get(name, {})
        merged[name] = _least({value: one.get(value, 0) + other.get(value, 0) for value in {**one, **other}})
    return merged


def _word(part: str | int) -> bytes:
    data = str(part).encode()
    return len(data).to_bytes(4, "little") + data


def _unseen_from(data: bytes) -> Unseen:
    words, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "little")
        words.append(data[place + 4 : place + 4 + size])
        place += 4 + size
    if place != len(data) or len(words) % 3:
        raise DataLoss("a fold cannot be read: its texts are cut short")
    unseen: dict[str, dict[str, int]] = {}
    for column, value, count in zip(words[::3], words[1::3], words[2::3], strict=True):
        unseen.setdefault(column.decode(), {})[value.decode()] = int(count)
    return unseen
