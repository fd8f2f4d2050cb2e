"""What does a record say? Protobuf messages of the two data topics as units of the domain.

``InvalidArgument`` says why a message cannot be right; such a record goes to the dead letter whole.
"""

import math
from datetime import datetime
from typing import Any

import numpy as np
from google.protobuf.message import Message
from perennial.clock import to_us
from perennial.errors import InvalidArgument
from perennial.frames import Table, Text, decode, decode_text
from perennial.v1 import events_pb2 as pb

from services.monitor.domain.deployments import Deployment
from services.monitor.domain.units import (
    OUTCOMES,
    PREDICTIONS,
    Dropped,
    Ended,
    Floats,
    Outcome,
    Outcomes,
    Predictions,
    Progress,
    Shadows,
    Source,
    Unit,
    foreign_place,
    position_of,
)

LABEL = "label"
PREDICTION = "prediction"
NO_WATERMARK_US = -(2**55)
"""What a progress that only asks for a commit says."""


def unit_from(  # noqa: PLR0911 a return a kind of message
    message: Message, kind: str, deployment: Deployment, *, now: datetime, producer: str = ""
) -> Unit:
    """The unit a message of the topic ``kind`` stands for."""
    if isinstance(message, pb.PredictionBatch):
        return _predictions(message, deployment)
    if isinstance(message, pb.ShadowBatch):
        return _shadows(message, deployment)
    if isinstance(message, pb.StreamProgress):
        source = Source(kind, message.stream, message.deployment, message.version, message.variant)
        told = None if message.watermark_us == NO_WATERMARK_US else message.watermark_us
        return Progress(source, max(message.next_n, 1), told, message.flush)
    if isinstance(message, pb.StreamGap):
        source = Source(kind, message.stream, message.deployment, message.version, message.variant)
        if not 0 < message.from_n <= message.to_n:
            raise InvalidArgument(f"a gap from {message.from_n} to {message.to_n} holds no positions")
        return Dropped(source, message.from_n, message.to_n, message.reason)
    if isinstance(message, pb.StreamEnded):
        return Ended(Source(kind, message.stream, message.deployment, message.version, message.variant), message.last_n)
    if isinstance(message, pb.OutcomeBatch):
        return _outcomes(message, deployment)
    if isinstance(message, pb.ForeignPrediction):
        return _foreign_prediction(message, deployment, now, producer)
    if isinstance(message, pb.ForeignOutcome):
        return _foreign_outcome(message, deployment, now, producer)
    raise InvalidArgument(f"{message.DESCRIPTOR.name} does not belong on this topic")


def scores_of(outputs: Table, deployment: Deployment) -> Floats:
    """The predicted numbers, or probabilities in the order of the signature's classes; rows x width."""
    if not deployment.classes:
        name = PREDICTION if PREDICTION in outputs.number_names or not outputs.number_names else outputs.number_names[0]
        return np.asarray(outputs.column(name), dtype=np.float64).reshape(-1, 1)
    names = [f"p:{label}" for label in deployment.classes]
    if set(names) <= set(outputs.number_names):
        return np.stack([np.asarray(outputs.column(name), dtype=np.float64) for name in names], axis=1)
    labels = outputs.column(LABEL)
    places = {label: place for place, label in enumerate(deployment.classes)}
    scores = np.zeros((outputs.rows, len(names)))
    for row, label in enumerate(labels):
        if label in places:
            scores[row, places[label]] = 1.0
    return scores


def _times(given: Any, rows: int) -> Any:
    times = np.fromiter(given, dtype=np.int64, count=len(given))
    if len(times) != rows:
        raise InvalidArgument(f"{len(times)} event times for {rows} rows")
    return times


def _predictions(message: pb.PredictionBatch, deployment: Deployment) -> Predictions:
    inputs = decode(message.inputs, number_names=deployment.number_columns)
    outputs = decode(message.outputs)
    if not message.stream or message.first_n < 1 or outputs.rows < 1:
        raise InvalidArgument("a batch names its stream, begins at position 1 or later and holds rows")
    if inputs.rows != outputs.rows:
        raise InvalidArgument(f"{inputs.rows} rows of inputs and {outputs.rows} of outputs")
    source = Source(PREDICTIONS, message.stream, message.deployment, message.version, message.variant)
    times = _times(message.event_times_us, outputs.rows)
    keys = decode_text(message.entity_keys, outputs.rows) if message.entity_keys.codes else None
    return Predictions(source, message.first_n, times, inputs, outputs, scores_of(outputs, deployment), keys=keys)


def _shadows(message: pb.ShadowBatch, deployment: Deployment) -> Shadows:
    positions = np.fromiter(message.positions, dtype=np.int64, count=len(message.positions))
    outputs = decode(message.outputs)
    if outputs.rows != len(positions) or len(message.statuses) not in (0, len(positions)):
        raise InvalidArgument(f"{outputs.rows} outputs and {len(message.statuses)} statuses for {len(positions)} positions")
    statuses = np.frombuffer(message.statuses or bytes(len(positions)), dtype=np.uint8)
    scores = scores_of(outputs, deployment)
    failed = (statuses != 0) | ~np.isfinite(scores).all(axis=1)
    source = Source(PREDICTIONS, message.stream, message.deployment)
    times = _times(message.event_times_us, len(positions)) if message.event_times_us else np.zeros(len(positions), np.int64)
    return Shadows(source, message.version, message.rollout, positions, times, scores, failed)


def _outcomes(message: pb.OutcomeBatch, deployment: Deployment) -> Outcomes:
    rows = len(message.prediction_ids.codes) // 4
    ids = decode_text(message.prediction_ids, rows).decoded().tolist()
    numbers = np.frombuffer(message.numbers, dtype="<f8") if message.numbers else np.full(rows, math.nan)
    coded = len(message.labels.codes) // 4
    labels = decode_text(message.labels, coded).decoded().tolist() if coded else [None] * rows
    known = list(message.known_at_us) * (rows if len(message.known_at_us) == 1 else 1)
    revisions = list(message.revisions) or [0] * rows
    if not message.stream or message.first_n < 1 or not len(numbers) == len(labels) == len(known) == len(revisions) == rows:
        raise InvalidArgument("an outcome batch names its stream and position, and its columns are equally long")
    found, refused = [], {}
    for row, (name, number, label, known_us, revision) in enumerate(
        zip(ids, numbers.tolist(), labels, known, revisions, strict=True)
    ):
        place = _place(name or "", deployment)
        if complaint := _wrong(name, place, number, label, deployment):
            refused[row] = complaint
        stream, n = place or ("", 0)
        found.append(Outcome(message.deployment, name or "", revision, known_us, number, label or "", stream, n))
    source = Source(OUTCOMES, message.stream, message.deployment)
    return Outcomes(source, message.first_n, tuple(found), refused)


def _wrong(name: str | None, place: tuple[str, int] | None, number: float, label: str | None, deployment: Deployment) -> str:
    """Why a single outcome can never be right; empty when it can."""
    if not name or place is None:
        return f"{name!r} is no prediction id (<stream>-<n>)"
    if deployment.classes and label not in deployment.classes:
        return f"{label!r} is none of the classes {', '.join(deployment.classes)}"
    if not deployment.classes and not math.isfinite(number):
        return f"{number} is no truth of a regression"
    return ""


def one_outcome(message: pb.OutcomeBatch, row: int) -> pb.OutcomeBatch:
    """A batch of one of the rows, for the dead letter."""
    ids = decode_text(message.prediction_ids, len(message.prediction_ids.codes) // 4)
    single = pb.OutcomeBatch(stream=message.stream, first_n=message.first_n + row, deployment=message.deployment)
    single.prediction_ids.codes = ids.codes[row : row + 1].tobytes()
    single.prediction_ids.values.extend(ids.values)
    single.numbers = message.numbers[row * 8 : row * 8 + 8]
    single.labels.codes = message.labels.codes[row * 4 : row * 4 + 4]
    single.labels.values.extend(message.labels.values)
    single.known_at_us.append(message.known_at_us[row if len(message.known_at_us) > 1 else 0])
    single.revisions.extend(message.revisions[row : row + 1])
    return single


def _foreign_prediction(message: pb.ForeignPrediction, deployment: Deployment, now: datetime, producer: str) -> Predictions:
    if not deployment.foreign:
        raise InvalidArgument(f"deployment {deployment.name} answers itself; only a foreign one takes predictions from outside")
    if not message.prediction_id:
        raise InvalidArgument("a prediction from outside needs its id")
    inputs, outputs = (Table.of({k: [_plain(k, v)] for k, v in dict(side).items()}) for side in (message.inputs, message.outputs))
    time = to_us(message.event_time.ToDatetime(tzinfo=now.tzinfo)) if message.HasField("event_time") else to_us(now)
    sequence = message.sequence if producer else 0
    at = foreign_place(deployment.name, message.prediction_id)
    stream = f"{at[0]}/{producer}" if sequence else at[0]
    source = Source(PREDICTIONS, stream, deployment.name, message.version or "unknown", "champion")
    times = np.array([time], dtype=np.int64)
    keys = Text.of([message.entity_key])
    return Predictions(source, sequence, times, inputs, outputs, scores_of(outputs, deployment), at, keys)


def _foreign_outcome(message: pb.ForeignOutcome, deployment: Deployment, now: datetime, producer: str) -> Outcomes:
    if not message.prediction_id:
        raise InvalidArgument("an outcome from outside needs the id of its prediction")
    value = message.value
    which = value.WhichOneof("kind")
    if which not in ("number_value", "string_value", "bool_value"):
        raise InvalidArgument(f"the truth of {message.prediction_id} is neither a number nor a text")
    number = float(value.number_value if which == "number_value" else value.bool_value) if which != "string_value" else math.nan
    known = to_us(message.known_at.ToDatetime(tzinfo=now.tzinfo)) if message.HasField("known_at") else to_us(now)
    place = _place(message.prediction_id, deployment)
    label = value.string_value
    if complaint := _wrong(message.prediction_id, place, number, label, deployment):
        raise InvalidArgument(complaint)
    stream, n = place or ("", 0)
    row = Outcome(message.deployment, message.prediction_id, message.revision, known, number, label, stream, n)
    sequence = message.sequence if producer else 0
    shared = f"foreign/{message.deployment}"
    source = Source(OUTCOMES, f"{shared}/{producer}" if sequence else shared, message.deployment)
    return Outcomes(source, sequence, (row,))


def _place(name: str, deployment: Deployment) -> tuple[str, int] | None:
    """Where the prediction of an outcome is kept."""
    return foreign_place(deployment.name, name) if deployment.foreign and name else position_of(name)


def _plain(name: str, value: object) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | float | int):
        return float(value)
    raise InvalidArgument(f"column {name!r} holds neither a number nor a text")
