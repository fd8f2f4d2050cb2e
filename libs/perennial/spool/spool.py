"""How does one process write its calls down before it answers them?

All calls that wait in one turn of the event loop share one write; a sync to the disk follows within 50 ms off the loop. A
write that fails leaves the segment as it was: the rows of that group are a gap of their streams, which is written as soon
as there is room.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from perennial.spool import records
from perennial.spool.records import Part, StreamInfo
from perennial.spool.segments import Position, Writer
from perennial.v1.events_pb2 import StreamEnded, StreamGap

LOCK = "lock"
SYNC_S = 0.05
SEGMENT_BYTES = 16 * 1024 * 1024
_ID_BYTES = 12


class SpoolFull(Exception):
    """There was no room for the record; its rows are a gap."""


class _Range(NamedTuple):
    """Positions in a group; those of a gap were counted as dropped before."""

    stream: Stream
    first: int
    last: int
    counted: bool


class Stream:
    """One open stream: whoever takes positions writes them in the same turn of the loop."""

    __slots__ = ("announced", "ended", "gaps", "id", "info", "logged_n", "next_n", "ordinal", "watermark_us")

    def __init__(self, spool_id: str, ordinal: int, info: StreamInfo) -> None:
        self.id = f"{spool_id}.{ordinal}"
        self.ordinal = ordinal
        self.info = info
        self.next_n = 1
        self.logged_n = 1
        """The first position of which nothing is on the disk."""
        self.announced = False
        self.ended = False
        self.watermark_us: int | None = None
        self.gaps: list[tuple[int, int, str]] = []

    def take(self, rows: int) -> int:
        """The first of ``rows`` new positions."""
        first = self.next_n
        self.next_n = first + rows
        return first


class Spool:
    """The spool of this process. Use from one event loop."""

    def __init__(
        self, root: Path, *, most_bytes: int | None = None, segment_bytes: int = SEGMENT_BYTES,
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.id = secrets.token_hex(_ID_BYTES)
        self.folder = root / self.id
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made under another name, so that nobody finds the folder before its lock is held.
        draft = root / f".{self.id}"
        draft.mkdir(mode=0o700)
        self._lock = os.open(draft / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(self.folder)
        self.writer = Writer(self.folder, segment_bytes=segment_bytes, most_bytes=most_bytes)
        self.streams: dict[tuple[str, str, str], Stream] = {}
        self.on_written: Callable[[], None] = lambda: None
        """Told after every group: the sender's bell."""
        self.on_dropped: Callable[[str, int], None] = lambda _deployment, _rows: None
        self.rows_written = 0
        self._ordinal = 0
        self._wall = wall
        self._group: list[bytes] = []
        self._rows: list[_Range] = []
        self._touched: list[Stream] = []
        self._written: asyncio.Future[None] | None = None
        self._syncing: asyncio.Task[None] | None = None

    @property
    def end(self) -> Position:
        """Behind the last record written."""
        return self.writer.end

    def stream(self, info: StreamInfo) -> Stream:
        """The open stream of (deployment, version, variant), begun now if there is none."""
        key = (info.deployment, info.version, info.variant)
        found = self.streams.get(key)
        if found is None:
            found = self.streams[key] = Stream(self.id, self._ordinal, info)
            self._ordinal += 1
        return found

    def append(
        self, streams: Sequence[Stream], parts: Sequence[Part], *, request_id: str = "", body: bytes = b"", answer: bytes = b"",
        at_once: bool = False,
    ) -> asyncio.Future[None]:  # fmt: skip
        """Write a call; the future is done when it is written, or holds ``SpoolFull``. ``streams`` go with ``parts``.

        ``at_once``: nobody else is about to write, so there is nothing to wait for.
        """
        for stream, part in zip(streams, parts, strict=True):
            if not stream.announced or stream.gaps:
                self._prepare(stream)
            self._rows.append(_Range(stream, part.first_n, part.first_n + part.rows - 1, counted=False))
        written = self._add(records.call(parts, self._wall(), request_id, body, answer), later=not at_once)
        if at_once:
            self._write()
        return written

    def announce(self, stream: Stream) -> None:
        """Write that the stream is there, though it has no rows yet."""
        if not stream.announced:
            self._add(records.opened(stream.ordinal, stream.logged_n, stream.info))
            stream.announced = True
            self._touched.append(stream)

    def message(self, stream: Stream, type_name: str, value: bytes) -> asyncio.Future[None]:
        """Write a whole message under the stream's key, behind everything written before."""
        if not stream.announced or stream.gaps:
            self._prepare(stream)
        return self._add(records.control(stream.ordinal, stream.next_n, type_name, value))

    def finish(self, stream: Stream) -> asyncio.Future[None]:
        """End a stream; the next use of its key begins a new one."""
        info = stream.info
        self.streams.pop((info.deployment, info.version, info.variant), None)
        stream.ended = True
        ended = StreamEnded(
            stream=stream.id, last_n=stream.next_n - 1, deployment=info.deployment, version=info.version, variant=info.variant
        )
        return self.message(stream, "StreamEnded", ended.SerializeToString())

    async def committed(self) -> None:
        """Return when everything appended so far is written or has failed."""
        if self._written is not None:
            await asyncio.wait([self._written])

    async def close(self) -> None:
        """End every stream, write and sync; then the folder is free for whoever drains it."""
        for stream in list(self.streams.values()):
            self.finish(stream)
        await self.committed()
        if self._syncing is not None:
            await self._syncing
        self.writer.close()

    def release(self) -> None:
        """Give up the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _prepare(self, stream: Stream) -> None:
        """What must stand before the stream's next record."""
        if not stream.announced:
            self._group.append(records.opened(stream.ordinal, stream.logged_n, stream.info))
            stream.announced = True
        self._touched.append(stream)
        gaps, stream.gaps = stream.gaps, []
        info = stream.info
        for first, last, reason in gaps:
            gap = StreamGap(
                stream=stream.id, from_n=first, to_n=last, reason=reason, deployment=info.deployment, version=info.version,
                variant=info.variant,
            )  # fmt: skip
            self._group.append(records.control(stream.ordinal, last + 1, "StreamGap", gap.SerializeToString()))
            self._rows.append(_Range(stream, first, last, counted=True))

    def _add(self, record: bytes, *, later: bool = True) -> asyncio.Future[None]:
        self._group.append(record)
        written = self._written
        if written is None:
            loop = asyncio.get_running_loop()
            written = self._written = loop.create_future()
            if later:
                loop.call_soon(self._write)
        return written

    def _write(self) -> None:
        """One write for all calls of this turn."""
        written, self._written = self._written, None
        if written is None:
            return  # a call that was alone has written the group
        group, self._group = self._group, []
        rows, self._rows = self._rows, []
        touched, self._touched = self._touched, []
        data = b"".join(group)
        try:
            if self.writer.full_with(len(data)):
                data = self._named(rows, touched) + data
                self.writer.roll()
            self.writer.write(data)
        except OSError as error:
            self._failed(rows, touched)
            written.set_exception(SpoolFull(f"the prediction log cannot be written: {error.strerror or error}"))
            written.exception()  # read: not everybody who writes waits
            return
        for stream, first, last, counted in rows:
            stream.logged_n = last + 1
            self.rows_written += 0 if counted else last - first + 1
        written.set_result(None)
        self.on_written()
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.get_running_loop().create_task(self._sync())

    def _named(self, rows: list[_Range], touched: list[Stream]) -> bytes:
        """The streams a new segment may hold, so that it can be read when the ones before are gone."""
        streams = {s.ordinal: s for s in (*self.streams.values(), *touched, *(r.stream for r in rows)) if s.announced}
        return b"".join(records.opened(s.ordinal, s.logged_n, s.info) for s in streams.values())

    def _failed(self, rows: list[_Range], touched: list[Stream]) -> None:
        for stream in touched:
            stream.announced = False  # saying it twice does no harm
        for stream, first, last, counted in rows:
            if not counted:
                self.on_dropped(stream.info.deployment, last - first + 1)
            follows = stream.gaps and stream.gaps[-1][1] + 1 == first
            stream.gaps.append((stream.gaps.pop()[0] if follows else first, last, "disk-full"))

    async def _sync(self) -> None:
        await asyncio.sleep(SYNC_S)
        if self.writer.descriptor >= 0:
            await asyncio.to_thread(self._synced)

    def _synced(self) -> None:
        try:
            self.writer.sync()
        except OSError:
            return  # the segment was closed meanwhile, and closing syncs


def orphans(root: Path, own: str = "") -> list[tuple[Path, int]]:
    """Spools whose process is gone, oldest first, each with its lock, now held by the caller."""
    found = []
    folders = [path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")]
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime):
        if folder.name == own:
            continue
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        found.append((folder, descriptor))
    return found
