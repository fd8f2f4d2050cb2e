"""How do spools reach the topic of predictions? The own one as it grows, and those of dead processes to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from perennial import metrics
from perennial.clock import from_us
from perennial.runtime import telemetry
from perennial.runtime.bus import Bus
from perennial.runtime.bus import Outgoing as Record
from perennial.runtime.events import Event, headers_of
from perennial.spool import Outgoing, Sender, Spool, orphans
from perennial.topics import PREDICTIONS

from services.serving.engine.repeats import Repeats

_LOOK_S = 10.0
_LOG = telemetry.log(__name__)


class Logbook:
    """The own spool and those found."""

    def __init__(self, root: Path, spool: Spool, bus: Bus, repeats: Repeats) -> None:
        self._root = root
        self._spool = spool
        self._bus = bus
        self._repeats = repeats
        self.sender = Sender(spool.folder, self._send, spool=spool)
        self._found: list[Sender] = []
        spool.on_dropped = self._dropped

    def adopt(self) -> None:
        """Take over the spools of dead processes, and learn what they answered."""
        for folder, lock in orphans(self._root, own=self._spool.id):
            self._repeats.learn(folder)
            self._found.append(Sender(folder, self._send, lock=lock))

    async def run(self) -> None:
        """Send the own spool for ever."""
        await self.sender.run()

    async def drain(self) -> None:
        """Send what dead processes left; look for more of them now and then."""
        while True:
            for sender in list(self._found):
                if not sender.drained:
                    _LOG.info("draining a spool of another process", spool=sender.folder.name)
                    await sender.drain()
                if sender.remove():
                    sender.close()
                    self._found.remove(sender)
            await asyncio.sleep(_LOOK_S)
            self.adopt()

    async def show(self) -> None:
        """Keep the spool's figures current."""
        while True:
            pending = self._spool.rows_written - self.sender.rows_acknowledged
            telemetry.metric(metrics.SPOOL_PENDING).set(pending)
            telemetry.metric(metrics.SPOOL_BYTES).set(self._spool.writer.size_bytes)
            await asyncio.sleep(1.0)

    async def close(self) -> None:
        """End the own streams and send what can still be sent; the rest waits on the disk for the next process."""
        await self._spool.close()
        try:
            await asyncio.wait_for(self.sender.flush(), 5.0)
            (self._spool.folder / "drained").touch()
        except TimeoutError:
            _LOG.warning("the spool keeps predictions for the next start")
        self.sender.close()
        for sender in self._found:
            sender.close()
        self._spool.release()

    async def _send(self, messages: Sequence[Outgoing]) -> bool:
        failed = await self._bus.produce_many(PREDICTIONS, [self._record(out) for out in messages])
        return not failed

    def _record(self, out: Outgoing) -> Record:
        times = getattr(out.message, "event_times_us", None)
        deployment: str = out.message.deployment  # type: ignore[attr-defined] # every message here has one
        event = Event(
            PREDICTIONS, out.stream, out.message, subject=deployment, time=from_us(times[-1]) if times else None, rows=out.rows,
        )  # fmt: skip
        headers = headers_of(event, source=self._bus.source)
        headers += [
            ("ce_stream", out.stream.encode()), ("ce_firstn", str(out.first_n).encode()),
        ]  # fmt: skip
        return Record(out.stream.encode(), out.message.SerializeToString(), headers)

    def _dropped(self, deployment: str, rows: int) -> None:
        telemetry.metric(metrics.EVENTS_DROPPED).labels(deployment, "disk-full").inc(rows)
