"""How do records lie on the disk, and where does a damaged file end?"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from perennial.spool import records

SUFFIX = ".segment"
_PROGRESS = struct.Struct("<QQQ")


class Position(NamedTuple):
    """A place between two records: the segment's number and the offset in it."""

    segment: int = 1
    offset: int = 0


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:010d}{SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """The segments of a spool, oldest first."""
    return sorted(int(path.name.removesuffix(SUFFIX)) for path in folder.glob(f"*{SUFFIX}"))


class Writer:
    """Appends groups of records; a group is on the disk whole or not at all."""

    def __init__(self, folder: Path, *, segment_bytes: int, most_bytes: int | None) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._most_bytes = most_bytes
        self._kept = 0
        """Bytes of earlier segments that are still there."""
        self._number = 0
        self.descriptor = -1
        self._size = 0
        self._next_segment()

    @property
    def end(self) -> Position:
        """Where the next record will begin."""
        return Position(self._number, self._size)

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments on the disk."""
        return self._kept + self._size

    def full_with(self, size: int) -> bool:
        """Whether so many more bytes belong in the next segment."""
        return self._size > 0 and self._size + size > self._segment_bytes

    def roll(self) -> None:
        """Begin the next segment."""
        self._next_segment()

    def write(self, group: bytes) -> None:
        """Append the group in one write; ``OSError`` when there is no room, with the segment as it was before."""
        if self._most_bytes is not None and self.size_bytes + len(group) > self._most_bytes:
            raise OSError(28, "the spool has reached its limit")
        try:
            written = os.write(self.descriptor, group)
        except OSError:
            self._back()
            raise
        if written != len(group):
            self._back()
            raise OSError(28, f"only {written} of {len(group)} bytes were written")
        self._size += written

    def removed(self, size: int) -> None:
        """An earlier segment of this size is gone."""
        self._kept -= size

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fdatasync(self.descriptor)

    def close(self) -> None:
        """Sync and close the last segment."""
        if self.descriptor >= 0:
            self.sync()
            os.close(self.descriptor)
            self.descriptor = -1

    def _back(self) -> None:
        os.ftruncate(self.descriptor, self._size)

    def _next_segment(self) -> None:
        path = segment_path(self._folder, self._number + 1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self.descriptor >= 0:
            self.sync()
            os.close(self.descriptor)
        self.descriptor, self._kept, self._size = descriptor, self._kept + self._size, 0
        self._number += 1


class Reader:
    """Reads records from a position on; a torn tail is the end of its segment."""

    def __init__(self, folder: Path, position: Position) -> None:
        self._folder = folder
        self.position = position
        self._open: tuple[int, int] | None = None

    def chunk(self, most: int = 1 << 20) -> list[tuple[Position, records.Opened | records.Call | records.Control]]:
        """The next records, at least one if there is one, with the position behind each; empty at the end."""
        while True:
            number, offset = self.position
            found = self._in_segment(number, offset, most)
            if found:
                self.position = found[-1][0]
                return found
            later = [n for n in segment_numbers(self._folder) if n > number]
            if not later:
                return []
            self.position = Position(later[0], 0)

    def _in_segment(
        self, number: int, offset: int, most: int
    ) -> list[tuple[Position, records.Opened | records.Call | records.Control]]:
        descriptor = self._descriptor(number)
        if descriptor is None:
            return []
        data = os.pread(descriptor, most, offset)
        if len(data) >= records.HEAD.size:
            length = records.HEAD.unpack_from(data)[0] + records.HEAD.size
            if len(data) < length <= records.LARGEST:
                data = os.pread(descriptor, length, offset)
        view = memoryview(data)
        return [(Position(number, offset + stop), records.parse(payload)) for stop, payload in records.read(view)]

    def _descriptor(self, number: int) -> int | None:
        if self._open is not None and self._open[0] == number:
            return self._open[1]
        self.close()
        try:
            descriptor = os.open(segment_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        self._open = (number, descriptor)
        return descriptor

    def close(self) -> None:
        """Close the open segment."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


class Progress:
    """Up to where a spool has been acknowledged; a stale one only makes a sender repeat."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "acknowledged"

    def read(self) -> Position:
        """The position; the beginning when none was stored or the file is damaged."""
        try:
            segment, offset, checksum = _PROGRESS.unpack(self._path.read_bytes())
        except (FileNotFoundError, struct.error):
            return Position()
        return Position(segment, offset) if checksum == zlib.crc32(_PROGRESS.pack(segment, offset, 0)) else Position()

    def store(self, position: Position) -> None:
        """Remember the position."""
        data = _PROGRESS.pack(*position, zlib.crc32(_PROGRESS.pack(*position, 0)))
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, data, 0)
        finally:
            os.close(descriptor)
