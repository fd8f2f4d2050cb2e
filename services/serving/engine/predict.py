"""How is a prediction answered? Check, route, compute, write down, answer.

Nothing here asks another process (but the feature service, where a deployment is bound to it), and every answer is in the
spool before it leaves. A challenger that fails is answered for by the champion in the same call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
from perennial.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, ResourceExhausted
from perennial.frames import Table, decode
from perennial.runtime.peers import Peers
from perennial.spool import Part, Spool, SpoolFull, Stream
from perennial.v1.common_pb2 import Frame
from perennial.v1.serving_pb2 import PredictionRun, PredictRequest, PredictResponse

from services.serving.config import ServingConfig
from services.serving.domain.deployment import CHALLENGER, CHAMPION
from services.serving.domain.routing import challenged
from services.serving.domain.spec import HOUR_US
from services.serving.engine.answers import ANSWERED, STOOD_IN, Answered, Matrix, failure, flaw, outputs_of, part_of
from services.serving.engine.features import completed
from services.serving.engine.line import Line
from services.serving.engine.personal import hidden
from services.serving.engine.repeats import Repeats
from services.serving.engine.shadow import Copy, Shadow

_OPEN_CALLS = 2000


class DataPlane:
    """Answers predictions from the lines of this process."""

    def __init__(self, config: ServingConfig, spool: Spool, shadow: Shadow, peers: Peers, pii_key: bytes) -> None:
        self.lines: dict[str, Line] = {}
        self.watermarks: dict[str, int] = {}
        self.repeats = Repeats()
        self.on_cut: Callable[[Line, str], None] = lambda _line, _reason: None
        self._config = config
        self._spool = spool
        self._shadow = shadow
        self._peers = peers
        self._pii_key = pii_key[:64]
        self._inline_rows = config.inline_rows
        self._threads = ThreadPoolExecutor(1, "champion")
        self._challenger_threads = ThreadPoolExecutor(1, "challenger")
        self._open = 0

    def line(self, name: str) -> Line:
        """The line of a deployment. NotFound."""
        found = self.lines.get(name)
        if found is None:
            raise NotFound(f"no deployment {name!r} here")
        return found

    async def predict(self, request: PredictRequest) -> PredictResponse:
        """See the proto."""
        line = self.lines.get(request.deployment) or self.line(request.deployment)
        if line.deployment.retired or line.deployment.spec.foreign:
            why = "is retired" if line.deployment.retired else "is predicted for by a system outside"
            raise FailedPrecondition(f"deployment {line.deployment.name} {why}")
        if self._open >= _OPEN_CALLS:
            raise ResourceExhausted(f"{self._open} calls are being answered; try again later")
        self._open += 1
        try:
            if request.request_id:
                return await self.repeats.once(request, lambda key, body: self._answer(line, request, key, body))
            return await self._answer(line, request)
        finally:
            self._open -= 1

    async def _answer(self, line: Line, request: PredictRequest, request_id: str = "", body: bytes = b"") -> PredictResponse:
        begin = perf_counter()
        table = decode(request.rows, number_names=line.signature.number_names)
        rows = table.rows
        times = self._times(line, request, rows)
        if line.deployment.spec.features:
            us = request.event_times_us or [int.from_bytes(times[:8], "little")]
            table = await completed(line, table, us, self._peers, timeout_s=self._config.features_timeout_s)
        table = line.signature.check(table)
        numbers = np.ascontiguousarray(table.numbers, dtype=np.float32)
        table = Table(rows, table.number_names, numbers, table.texts)
        keys = request.entity_keys
        if line.weight and not line.cut:
            answers = await self._split(line, table, keys)
        else:
            outputs = self._inline(line, table) if rows <= self._inline_rows else await self._champion(line, table)
            answers = [Answered(line.champion, CHAMPION, outputs, None, ANSWERED)]
        response = await self._logged(line, request, table, times, answers, perf_counter() - begin, request_id, body)
        seconds = perf_counter() - begin
        for answered in answers:
            answered.loaded.counter.answered(len(answered.outputs), seconds)
        return response

    def _times(self, line: Line, request: PredictRequest, rows: int) -> bytes:
        """The event time of each row as int64 bytes; InvalidArgument when they or the rows are outside their limits."""
        if not 0 < rows <= line.deployment.spec.max_rows:
            raise InvalidArgument(f"{rows} rows: a call has 1 to {line.deployment.spec.max_rows}")
        given, keys = request.event_times_us, len(request.entity_keys)
        if keys and keys != rows:
            raise InvalidArgument(f"entity_keys: {keys} for {rows} rows; give one a row or none")
        if given and len(given) != rows:
            raise InvalidArgument(f"event_times_us: {len(given)} for {rows} rows; give one a row")
        if not given:
            if line.event_time:
                raise InvalidArgument("event_times_us: the deployment follows event time, so every row needs one")
            return int(time.time() * 1e6).to_bytes(8, "little") * rows
        times = np.array(given, dtype="<i8")
        if line.event_time:
            least = self.watermarks.get(line.deployment.name)
            if least is not None and times.min() < least:
                raise InvalidArgument(f"event_times_us: {times.min()} is before the watermark {least} of {line.deployment.name}")
        else:
            now = int(time.time() * 1e6)
            if abs(times - now).max() > HOUR_US:
                raise InvalidArgument("event_times_us: the deployment follows arrival, so times lie within an hour of now")
        return times.tobytes()

    async def _champion(self, line: Line, table: Table) -> Matrix:
        """The champion's outputs; its failure is the call's."""
        if table.rows <= self._inline_rows:
            return self._inline(line, table)
        began = perf_counter()
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(self._threads, line.champion.predictor.run, table)
        except Exception as error:
            raise failure(line.champion, table.rows, error) from error
        return self._checked(line, outputs, table.rows, began)

    def _inline(self, line: Line, table: Table) -> Matrix:
        """The same for few rows: quicker done than handed to a thread."""
        began = perf_counter()
        try:
            outputs = line.champion.predictor.run(table)
        except Exception as error:
            raise failure(line.champion, table.rows, error) from error
        return self._checked(line, outputs, table.rows, began)

    def _checked(self, line: Line, outputs: Matrix, rows: int, began: float) -> Matrix:
        loaded = line.champion
        if wrong := flaw(loaded, outputs, rows):
            loaded.counter.failed(rows, "output")
            raise Internal(f"version {loaded.info.version}: {wrong}")
        if line.guardrail is not None:
            line.guardrail.champion_answered((perf_counter() - began) / rows)
        return outputs

    async def _split(self, line: Line, table: Table, keys: Sequence[str]) -> list[Answered]:
        """Both variants' rows; those of a failing challenger are the champion's."""
        if not keys:
            keys = [str(line.keyless + row) for row in range(table.rows)]
            line.keyless += table.rows
        chosen = challenged(line.turned, keys, line.weight)
        if not chosen.any():
            return [Answered(line.champion, CHAMPION, await self._champion(line, table), None, ANSWERED)]
        theirs = np.flatnonzero(chosen)
        outputs = await self._challenger(line, table.take(theirs))
        found = []
        if not chosen.all():
            ours = np.flatnonzero(~chosen)
            found.append(Answered(line.champion, CHAMPION, await self._champion(line, table.take(ours)), ours, ANSWERED))
        if outputs is None:
            stood_in = await self._champion(line, table.take(theirs))
            found.append(Answered(line.champion, CHAMPION, stood_in, theirs, STOOD_IN))
        elif line.challenger is not None:
            found.append(Answered(line.challenger, CHALLENGER, outputs, theirs, ANSWERED))
        return found

    async def _challenger(self, line: Line, table: Table) -> Matrix | None:
        """The challenger's outputs, or None when it failed; a guardrail may take it out."""
        loaded, guardrail = line.challenger, line.guardrail
        assert loaded is not None
        assert guardrail is not None

        def timed() -> tuple[Matrix, float]:
            began = perf_counter()
            return loaded.predictor.run(table), perf_counter() - began

        try:
            running = asyncio.get_running_loop().run_in_executor(self._challenger_threads, timed)
            outputs, seconds = await asyncio.wait_for(running, self._config.challenger_timeout_s)
            wrong = flaw(loaded, outputs, table.rows)
        except TimeoutError:
            wrong = f"no answer in {self._config.challenger_timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 whatever a challenger does, the champion answers
            wrong = str(error).splitlines()[0][:200]
        now = time.monotonic()
        if wrong:
            loaded.counter.failed(table.rows, "guardrail")
            reason = guardrail.failed(now, wrong)
        else:
            reason = guardrail.answered(now, seconds / table.rows)
        if reason and not line.cut:
            line.cut = reason
            self.on_cut(line, reason)
        return None if wrong else outputs

    async def _logged(  # noqa: PLR0917 on the path of every call: keywords cost
        self, line: Line, request: PredictRequest, table: Table, times: bytes, answers: list[Answered], seconds: float,
        request_id: str, body: bytes,
    ) -> PredictResponse:  # fmt: skip
        """Write the call down, then give its answer. Positions are taken and written in one turn of the loop."""
        logged = hidden(table, line.personal, self._pii_key) if line.personal else table
        texts = tuple(logged.texts.values())
        keys = request.entity_keys
        streams, parts, runs = [], [], []
        for loaded, variant, outputs, places, status in answers:
            stream = loaded.stream(self._spool)
            rows = len(outputs)
            first = stream.take(rows)
            streams.append(stream)
            parts.append(part_of(stream, first, rows, seconds, status, times, logged, texts, outputs, keys, places))
            runs.append(
                PredictionRun(
                    stream=stream.id, first_n=first, count=rows, version=loaded.info.version, variant=variant,
                    rows=places.tolist() if places is not None else None,
                )
            )  # fmt: skip
        response = PredictResponse(
            outputs=Frame(blocks=outputs_of(answers, table.rows)), runs=runs, deployment=line.deployment.name
        )
        written = self._spool.append(
            streams, parts, request_id=request_id, body=body, answer=response.SerializeToString() if request_id else b"",
            at_once=self._open == 1,
        )  # fmt: skip
        try:
            if written.done():
                written.result()
            else:
                await asyncio.shield(written)  # others share it
        except SpoolFull as error:
            if line.deployment.spec.strict_log:
                raise ResourceExhausted(str(error)) from error
        if line.shadow and not line.cut:
            await self._copy(line, table, times, answers[0], parts[0], streams[0])
        return response

    async def _copy(self, line: Line, table: Table, times: bytes, answered: Answered, part: Part, stream: Stream) -> None:
        """Let the challenger in shadow answer too, later."""
        assert line.challenger is not None
        copy = Copy(line, line.challenger, stream, part.first_n, answered.outputs.shape[1], table, times)
        if line.event_time:
            await self._shadow.put(copy)
        else:
            self._shadow.offer(copy)
