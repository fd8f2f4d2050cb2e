"""What has a variant seen? A fold: counts over a reference's bins for all columns at once, exact and mergeable.

A fold of rows is the same whatever batches and order they came in, because it holds integers only; ``merged`` is
associative and commutative, and an empty fold changes nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perennial.errors import DataLoss, InvalidArgument
from perennial.stats.binning import Binner, Taken, least_texts
from perennial.stats.columns import Counts
from perennial.stats.reference import Profile
from perennial.stats.rows import Rows

Unseen = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Fold:
    """Counts of some rows over a profile's bins (``counts``: inputs, then outputs), fixed-point sums of the number columns,
    and a sample of texts the reference never had: of each column the 16 of least checksum, with exact counts.
    """

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
        if not inflater.eof or magic != b"PRF1" or width not in (4, 8) or len(body) != size or max(bins, held, sums) > 2**24:
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
    first = folds[0]
    for fold in folds:
        if fold.profile != first.profile or fold.counts.shape != first.counts.shape:
            raise InvalidArgument(f"folds over profiles {first.profile:08x} and {fold.profile:08x} do not add up")
    counts, sums, unseen = first.counts.copy(), first.sums.copy(), first.unseen
    for fold in folds[1:]:
        counts += fold.counts
        sums += fold.sums
        unseen = _merged_unseen(unseen, fold.unseen) if fold.unseen else unseen
    return Fold(first.profile, sum(fold.rows for fold in folds), counts, sums, unseen)


class Folder:
    """Folds rows over a profile. Building one costs milliseconds: keep it as long as the model version is served."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._inputs = Binner([profile.inputs])
        self._both = Binner([profile.inputs, profile.outputs])

    def empty(self) -> Fold:
        """The fold of no rows."""
        sums = np.zeros(len(self._both.starts), np.int64)
        return Fold(self.profile.checksum, 0, np.zeros(self._both.bins, np.int64), sums)

    def fold(self, inputs: Rows, outputs: Rows | None = None) -> Fold:
        """The fold of these rows; columns that the profile lacks are passed over, ones that the rows lack are mistyped.

        Without ``outputs`` nothing is counted for them. InvalidArgument when the tables differ in rows.
        """
        unseen: dict[str, dict[str, int]] = {}
        if outputs is not None:
            if outputs.rows != inputs.rows:
                raise InvalidArgument(f"{outputs.rows} rows of outputs do not fit {inputs.rows} rows of inputs")
            counts, sums = self._both.counted([inputs, outputs], unseen)
            return Fold(self.profile.checksum, inputs.rows, counts, sums, unseen)
        counts, sums = self._inputs.counted([inputs], unseen)
        counts = np.concatenate([counts, np.zeros(self._both.bins - len(counts), np.int64)])
        sums = np.concatenate([sums, np.zeros(len(self._both.starts) - len(sums), np.int64)])
        return Fold(self.profile.checksum, inputs.rows, counts, sums, unseen)

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
            result[pane] = self.fold(Taken.of(inputs, chosen), None if outputs is None else Taken.of(outputs, chosen))
        return result


def _merged_unseen(first: Unseen, second: Unseen) -> Unseen:
    if not first or not second:
        return first or second
    merged = {}
    for name in {**first, **second}:
        one, other = first.get(name, {}), second.get(name, {})
        merged[name] = least_texts({value: one.get(value, 0) + other.get(value, 0) for value in {**one, **other}})
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
