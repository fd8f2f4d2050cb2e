"""How do outcomes and foreign predictions get to Kafka? Checked, batched, and acknowledged before the caller is."""

import math
import uuid

import numpy as np
from perennial.clock import Clock, to_us
from perennial.errors import InvalidArgument, Unavailable
from perennial.frames import Text, encode_text
from perennial.runtime.bus import Bus, Outgoing
from perennial.runtime.events import Event, headers_of
from perennial.topics import OUTCOMES, PREDICTIONS
from perennial.v1 import events_pb2 as pb
from perennial.v1 import monitor_pb2

from services.monitor import wire
from services.monitor.agent.decode import NO_WATERMARK_US
from services.monitor.domain.deployments import Deployment
from services.monitor.domain.units import position_of

MOST_ROWS = 10_000
LEAST_US, GREATEST_US = -(2**55), 2**55


class Recorder:
    """Puts what callers know on the data topics."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus, self._clock = bus, clock

    async def outcomes(self, deployment: Deployment, request: monitor_pb2.RecordOutcomesRequest) -> int:
        """Send the outcomes, then the watermark; the stream's next position. Unavailable when Kafka does not acknowledge."""
        rows = len(request.prediction_ids)
        stream = f"{deployment.name}/{request.stream or uuid.uuid4().hex}"
        first = request.first_n or 1
        key = stream.encode()
        records = []
        if rows:
            batch = self._batch(deployment, request, stream, first)
            records.append(self._record(key, Event(OUTCOMES, stream, batch, subject=deployment.name, rows=rows)))
        if request.HasField("watermark") or request.flush:
            progress = pb.StreamProgress(
                stream=stream, next_n=first + rows, deployment=deployment.name, flush=request.flush,
                watermark_us=wire.us_from(request.watermark) if request.HasField("watermark") else NO_WATERMARK_US,
            )  # fmt: skip
            records.append(self._record(key, Event(OUTCOMES, stream, progress, subject=deployment.name)))
        if records and await self._bus.produce_many(OUTCOMES, records):
            raise Unavailable("Kafka did not acknowledge the outcomes; the same call may be repeated")
        return first + rows

    async def predictions(self, deployment: Deployment, request: monitor_pb2.LogPredictionsRequest) -> int:
        """Send predictions of a system outside, one event each; how many."""
        if not deployment.foreign:
            raise InvalidArgument(f"deployment {deployment.name} is not declared foreign: it answers itself")
        if len(request.predictions) > MOST_ROWS:
            raise InvalidArgument(f"{len(request.predictions)} predictions; at most {MOST_ROWS} a call")
        records = []
        for row, prediction in enumerate(request.predictions):
            if not prediction.prediction_id or prediction.deployment not in ("", deployment.name):
                raise InvalidArgument(f"prediction {row}: it needs its own id, and no other deployment's name")
            prediction.deployment = deployment.name
            key = (request.producer or prediction.prediction_id).encode()
            producer = [("ce_producer", request.producer.encode())] if request.producer else []
            event = Event(PREDICTIONS, key.decode(), prediction, subject=deployment.name, rows=1)
            records.append(self._record(key, event, producer))
        if records and await self._bus.produce_many(PREDICTIONS, records):
            raise Unavailable("Kafka did not acknowledge the predictions; the same call may be repeated")
        return len(records)

    def _record(self, key: bytes, event: Event, more: list[tuple[str, bytes]] | None = None) -> Outgoing:
        headers = headers_of(event, source=self._bus.source) + (more or [])
        return Outgoing(key, event.message.SerializeToString(), headers)

    def _batch(
        self, deployment: Deployment, request: monitor_pb2.RecordOutcomesRequest, stream: str, first: int
    ) -> pb.OutcomeBatch:
        rows = len(request.prediction_ids)
        self._check(deployment, request, rows)
        known = list(request.known_at_us) or [to_us(self._clock.now())]
        return pb.OutcomeBatch(
            stream=stream, first_n=first, deployment=deployment.name,
            prediction_ids=encode_text(Text.of(request.prediction_ids)),
            numbers=np.asarray(request.numbers, dtype="<f8").tobytes(),
            labels=encode_text(Text.of(request.labels)) if request.labels else None,
            known_at_us=known, revisions=request.revisions,
        )  # fmt: skip

    @staticmethod
    def _check(deployment: Deployment, request: monitor_pb2.RecordOutcomesRequest, rows: int) -> None:
        """InvalidArgument when the rows cannot be right."""
        if rows > MOST_ROWS:
            raise InvalidArgument(f"{rows} outcomes; at most {MOST_ROWS} a call")
        truths = request.labels if deployment.classes else request.numbers
        others = request.numbers if deployment.classes else request.labels
        kind = "labels" if deployment.classes else "numbers"
        if len(truths) != rows or others:
            raise InvalidArgument(f"{deployment.name} takes one of {kind} a prediction id: {rows} ids, {len(truths)} {kind}")
        if len(request.known_at_us) not in (0, 1, rows) or len(request.revisions) not in (0, rows):
            raise InvalidArgument("known_at_us: none, one or one a row; revisions: none or one a row")
        if any(not LEAST_US < us < GREATEST_US for us in request.known_at_us):
            raise InvalidArgument("known_at_us is in microseconds since the epoch")
        if (
            not deployment.foreign
            and (bad := next((i for i in request.prediction_ids if position_of(i) is None), None)) is not None
        ):
            raise InvalidArgument(f"{bad!r} is no prediction id (<stream>-<n>)")
        if deployment.classes and (wrong := next((v for v in truths if v not in deployment.classes), None)) is not None:
            raise InvalidArgument(f"{wrong!r} is none of the classes {', '.join(deployment.classes)}")
        if not deployment.classes and not all(map(math.isfinite, request.numbers)):
            raise InvalidArgument("a truth is not finite")
