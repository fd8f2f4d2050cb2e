"""How does a challenger answer copies without delaying a caller?

Copies wait in a bounded queue for one thread. In arrival time what does not fit is dropped and counted; in event time a
call waits for room, and a watermark waits for all copies before it. Answers go to the spool under the champion's stream.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from perennial import metrics
from perennial.frames import Table
from perennial.runtime.telemetry import metric
from perennial.spool import Spool, Stream
from perennial.spool.batches import outputs_frame
from perennial.v1.events_pb2 import ShadowBatch

from services.serving.engine.line import Line, Loaded

_MOST_ROWS = 1024


class Copy(NamedTuple):
    """Rows the champion answered, for the challenger to answer too."""

    line: Line
    loaded: Loaded
    stream: Stream
    first_n: int
    width: int
    table: Table
    times: bytes


class Shadow:
    """The copies of this process."""

    def __init__(self, spool: Spool, *, most: int) -> None:
        self._spool = spool
        self._most = most
        self._queue: deque[Copy] = deque()
        self._open: Counter[str] = Counter()
        """Copies not written yet, by deployment."""
        self._changed = asyncio.Condition()
        self._bell = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "shadow")
        self.on_failing: Callable[[Line, str], None] = lambda _line, _reason: None

    def offer(self, copy: Copy) -> None:
        """Take the copy if there is room; else drop it and count."""
        if len(self._queue) >= self._most:
            labels = (copy.line.deployment.name, copy.loaded.info.version)
            metric(metrics.SHADOW_DROPPED).labels(*labels).inc(copy.table.rows)
            return
        self._take(copy)

    async def put(self, copy: Copy) -> None:
        """Take the copy, when there is room."""
        if len(self._queue) >= self._most:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self._queue) < self._most)
        self._take(copy)

    async def drained(self, deployment: str = "") -> None:
        """Return when no copy of a deployment (or of any) waits to be answered or written."""
        async with self._changed:
            await self._changed.wait_for(lambda: not (self._open[deployment] if deployment else self._open.total()))

    async def run(self) -> None:
        """Answer copies for ever."""
        while True:
            if not self._queue:
                self._bell.clear()
                await self._bell.wait()
            await self.step()

    async def finish(self) -> None:
        """Answer what is left."""
        while self._queue:
            await self.step()

    async def step(self) -> None:
        """Answer copies that go together, and write the answers."""
        copies = self._next()
        first = copies[0]
        try:
            table = Table.concat([copy.table for copy in copies])
            run = asyncio.get_running_loop().run_in_executor(self._thread, _answered, first.loaded, table, first.width)
            outputs, statuses, seconds, why = await run
            self._watch(first, len(statuses), int(statuses.sum()), why)
            self._write(copies, outputs, statuses, seconds)
        finally:
            async with self._changed:
                self._open[first.line.deployment.name] -= len(copies)
                self._changed.notify_all()

    def _take(self, copy: Copy) -> None:
        self._queue.append(copy)
        self._open[copy.line.deployment.name] += 1
        self._bell.set()

    def _next(self) -> list[Copy]:
        """The oldest copy and those behind it of the same stream and challenger."""
        copies = [self._queue.popleft()]
        rows = copies[0].table.rows
        while self._queue and rows < _MOST_ROWS:
            following = self._queue[0]
            if following.stream is not copies[0].stream or following.loaded is not copies[0].loaded:
                break
            rows += following.table.rows
            copies.append(self._queue.popleft())
        return copies

    def _watch(self, copy: Copy, rows: int, failures: int, why: str) -> None:
        guardrail = copy.line.guardrail
        if failures:
            copy.loaded.counter.failed(failures, "shadow")
        if guardrail is None or copy.line.cut:
            return
        reason = guardrail.copied(rows, failures, why)
        if reason:
            copy.line.cut = reason
            self.on_failing(copy.line, reason)

    def _write(
        self, copies: Sequence[Copy], outputs: NDArray[np.float32], statuses: NDArray[np.uint8], seconds: float
    ) -> None:
        first = copies[0]
        positions = [n for copy in copies for n in range(copy.first_n, copy.first_n + copy.table.rows)]
        message = ShadowBatch(
            stream=first.stream.id, positions=positions, deployment=first.line.deployment.name,
            version=first.loaded.info.version, outputs=outputs_frame(first.loaded.info, len(positions), outputs.tobytes()),
            latencies=np.full(len(positions), seconds, dtype="<f4").tobytes(), statuses=statuses.tobytes(),
            rollout=first.line.rollout_id,
            event_times_us=np.frombuffer(b"".join(copy.times for copy in copies), dtype="<i8").tolist(),
        )  # fmt: skip
        self._spool.message(first.stream, "ShadowBatch", message.SerializeToString())


def _answered(loaded: Loaded, table: Table, width: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], float, str]:
    """Outputs, a status a row, seconds a row, and what went wrong; runs in the shadow's thread."""
    began = perf_counter()
    why = ""
    try:
        outputs = loaded.predictor.run(table)
        if outputs.shape != (table.rows, width):
            why = f"it gave {outputs.shape} for {table.rows} rows"
    except Exception as error:  # noqa: BLE001 whatever a challenger does is a figure of its rollout
        why = str(error).splitlines()[0][:200]
    if why:
        outputs = np.full((table.rows, width), np.nan, dtype=np.float32)
    statuses: NDArray[np.uint8] = np.asarray(~np.isfinite(outputs).all(axis=1), dtype=np.uint8)
    outputs[statuses == 1] = np.nan
    return outputs, statuses, (perf_counter() - began) / table.rows, why or "it gave no number"
