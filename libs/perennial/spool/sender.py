"""How does a spool reach Kafka?

Read from the acknowledged position on, make batches, send them in order, and move the position when all are
acknowledged. A failed round is repeated as it is: readers take each position once, so repeating does no harm.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import Message

from perennial.spool.batches import Rows
from perennial.spool.records import Call, Control, Opened, Part
from perennial.spool.segments import Position, Progress, Reader, segment_numbers, segment_path
from perennial.spool.spool import Spool
from perennial.v1 import events_pb2
from perennial.v1.events_pb2 import StreamEnded, StreamGap, StreamProgress

LINGER_S = 0.2
KEEP_S = 600.0
ROUND_BYTES = 1 << 20
_RETRY_S = 0.5


class Outgoing(NamedTuple):
    """One message to send under its stream's key."""

    stream: str
    message: Message
    first_n: int
    rows: int


Send = Callable[[Sequence[Outgoing]], Awaitable[bool]]
"""Sends in order; True when every message was acknowledged."""


class _Known:
    """What the sender knows of a stream."""

    __slots__ = ("ended", "next_n", "rows")

    def __init__(self, rows: Rows, next_n: int) -> None:
        self.rows = rows
        self.next_n = next_n
        self.ended = False


class Sender:
    """Sends one spool: the own one while it grows, or a dead one's to its end."""

    def __init__(self, folder: Path, send: Send, *, spool: Spool | None = None, lock: int = -1, keep_s: float = KEEP_S) -> None:
        self.folder = folder
        self._send = send
        self._spool = spool
        self._lock = lock
        self._keep_s = keep_s
        self._progress = Progress(folder)
        self._acknowledged = self._progress.read()
        self._reader = Reader(folder, Position())
        self._streams: dict[int, _Known] = {}
        self._bell = asyncio.Event()
        self._hurry = asyncio.Event()
        self._done_at: dict[int, float] = {}
        self.rows_acknowledged = 0
        self.watermark: Callable[[str], int | None] = lambda _deployment: None
        """The arrival watermark of a deployment now; None when its watermark is declared."""
        self._told = 0.0
        self._catch_up()
        if spool is not None:
            spool.on_written = self._bell.set

    def kick(self) -> None:
        """Send without waiting for more."""
        self._hurry.set()
        self._bell.set()

    async def run(self) -> None:
        """Send for ever as the spool grows."""
        while True:
            try:
                await asyncio.wait_for(self._bell.wait(), 1.0)
            except TimeoutError:
                await self._tell()
                self._remove_old()
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), LINGER_S)
            self._bell.clear()
            self._hurry.clear()
            await self.flush()
            await self._tell()

    async def flush(self) -> None:
        """Return when everything written so far is acknowledged."""
        while await self._round():
            pass

    async def drain(self) -> None:
        """Send what a dead process left and end its streams; the folder goes ten minutes later."""
        await self.flush()
        ends = [
            Outgoing(self._id(ordinal), self._ended(ordinal, known), known.next_n, 0)
            for ordinal, known in self._streams.items()
            if not known.ended
        ]
        await self._sent(ends)
        (self.folder / "drained").touch()

    @property
    def drained(self) -> bool:
        """Whether nothing of this spool is left to send."""
        return (self.folder / "drained").exists()

    def remove(self) -> bool:
        """Remove a drained spool once it is old enough; True when it is gone."""
        if time.time() - (self.folder / "drained").stat().st_mtime < self._keep_s:
            return False
        shutil.rmtree(self.folder)
        return True

    def close(self) -> None:
        """Close files and give up the lock."""
        self._reader.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _catch_up(self) -> None:
        """Learn the streams from the records that were acknowledged before."""
        while self._reader.position < self._acknowledged:
            found = self._reader.chunk()
            if not found:
                break
            for position, record in found:
                if position <= self._acknowledged:
                    self._learn(record)
                else:
                    break
        self._reader.position = self._acknowledged

    def _learn(self, record: Opened | Call | Control) -> None:
        if isinstance(record, Opened):
            if record.ordinal not in self._streams:
                self._streams[record.ordinal] = _Known(Rows(self._id(record.ordinal), record.info), record.next_n)
        elif isinstance(record, Control):
            if (known := self._streams.get(record.ordinal)) is not None:
                known.next_n = max(known.next_n, record.next_n)
                known.ended = known.ended or record.type == "StreamEnded"
        else:
            for part in record.parts:
                known = self._streams[part.ordinal]
                known.next_n = part.first_n + part.rows

    def _id(self, ordinal: int) -> str:
        return f"{self.folder.name}.{ordinal}"

    async def _round(self) -> bool:
        """Send one chunk until it is acknowledged; False when there was none."""
        found = self._reader.chunk(ROUND_BYTES)
        if not found:
            return False
        messages = self._messages([record for _, record in found])
        await self._sent(messages)
        self.rows_acknowledged += sum(message.rows for message in messages)
        self._acknowledged = found[-1][0]
        self._progress.store(self._acknowledged)
        return True

    async def _sent(self, messages: Sequence[Outgoing]) -> None:
        """Send until all is acknowledged."""
        while messages and not await self._send(messages):  # noqa: ASYNC110 Kafka has no event to wait for
            await asyncio.sleep(_RETRY_S)

    def _messages(self, found: Sequence[Opened | Call | Control]) -> list[Outgoing]:
        out: list[Outgoing] = []
        for record in found:
            if isinstance(record, Call):
                for part in record.parts:
                    self._add(part, out)
                continue
            if isinstance(record, Control) and (known := self._streams.get(record.ordinal)) is not None:
                self._pour(known, out)
                message = getattr(events_pb2, record.type)()
                message.ParseFromString(record.value)
                out.append(Outgoing(self._id(record.ordinal), message, record.next_n, 0))
            self._learn(record)
        for known in self._streams.values():
            self._pour(known, out)
        return out

    def _add(self, part: Part, out: list[Outgoing]) -> None:
        known = self._streams[part.ordinal]
        if part.first_n > known.next_n:
            self._pour(known, out)
            out.append(Outgoing(known.rows.stream, self._gap(known, part.first_n - 1), known.next_n, 0))
        elif not known.rows.fits(part):
            self._pour(known, out)
        known.rows.add(part)
        known.next_n = part.first_n + part.rows

    def _pour(self, known: _Known, out: list[Outgoing]) -> None:
        rows = known.rows.rows
        if rows:
            batch = known.rows.batch()
            out.append(Outgoing(batch.stream, batch, batch.first_n, rows))

    def _gap(self, known: _Known, last: int) -> StreamGap:
        """Rows whose records cannot be read any more."""
        info = known.rows.info
        return StreamGap(
            stream=known.rows.stream, from_n=known.next_n, to_n=last, reason="damaged", deployment=info.deployment,
            version=info.version, variant=info.variant,
        )  # fmt: skip

    def _ended(self, ordinal: int, known: _Known) -> StreamEnded:
        info = known.rows.info
        return StreamEnded(
            stream=self._id(ordinal), last_n=known.next_n - 1, deployment=info.deployment, version=info.version,
            variant=info.variant,
        )  # fmt: skip

    async def _tell(self) -> None:
        """At most once a second: how far the open streams of deployments in arrival time have come."""
        now = time.monotonic()
        if self._spool is None or now - self._told < 1.0 or self._acknowledged < self._spool.end:
            return
        self._told = now
        progress = []
        for stream in self._spool.streams.values():
            known = self._streams.get(stream.ordinal)
            watermark = self.watermark(stream.info.deployment)
            if known is None or watermark is None:
                continue
            info = stream.info
            message = StreamProgress(
                stream=stream.id, next_n=known.next_n, watermark_us=watermark, deployment=info.deployment, version=info.version,
                variant=info.variant,
            )  # fmt: skip
            progress.append(Outgoing(stream.id, message, known.next_n, 0))
        if progress:
            await self._send(progress)

    def _remove_old(self) -> None:
        """Remove segments acknowledged ten minutes ago; never the one in use."""
        if self._spool is None:
            return
        now = time.monotonic()
        for number in segment_numbers(self.folder):
            if number < self._acknowledged.segment and now - self._done_at.setdefault(number, now) > self._keep_s:
                path = segment_path(self.folder, number)
                self._spool.writer.removed(path.stat().st_size)
                path.unlink()
