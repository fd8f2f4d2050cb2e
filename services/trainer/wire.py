"""Messages and events to domain and back."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from perennial import topics
from perennial.clock import from_us, to_us
from perennial.package import Task, task_from, task_to
from perennial.runtime.events import Event
from perennial.v1 import common_pb2, events_pb2
from perennial.v1 import trainer_pb2 as pb

from services.trainer.algorithms import Algorithm
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.recipe import Data, LogRows, Recipe, Snapshot, UnitChange

STATES = {state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}


def recipe_from(message: pb.Recipe) -> Recipe:
    """The recipe as it was given: hyperparameters unchecked, columns perhaps none."""
    return Recipe(
        model=message.model, algorithm=message.algorithm, task=str(task_from(message.task)), target=message.target,
        columns=tuple(message.columns), hyperparameters=json_format.MessageToDict(message.hyperparameters),
        seed=message.seed, tags=dict(message.tags),
    )  # fmt: skip


def recipe_to(recipe: Recipe) -> pb.Recipe:
    """The wire's recipe."""
    return pb.Recipe(
        model=recipe.model, algorithm=recipe.algorithm, task=task_to(Task(recipe.task)), target=recipe.target,
        columns=recipe.columns, hyperparameters=struct_to(recipe.hyperparameters), seed=recipe.seed, tags=recipe.tags,
    )  # fmt: skip


def data_from(message: pb.TrainingData) -> Data:
    """Where the rows come from."""
    if message.WhichOneof("source") != "log":
        return Data(training_set=message.training_set)
    log = message.log
    return Data(log=LogRows(
        log.deployment, snapshot_from(log.snapshot), us_from(log.window_start), us_from(log.window_end),
        us_from(log.change_point) if log.HasField("change_point") else None, log.first_training_set,
        units_from(log.unit_changes),
    ))  # fmt: skip


def data_to(data: Data) -> pb.TrainingData:
    """The wire's source of rows."""
    if data.log is None:
        return pb.TrainingData(training_set=data.training_set)
    log = data.log
    snapshot = events_pb2.LogSnapshot(
        snapshot_id=log.snapshot.snapshot_id, manifest_key=log.snapshot.manifest_key,
        manifest_sha256=log.snapshot.manifest_sha256, rows=log.snapshot.rows, outcomes=log.snapshot.outcomes,
    )  # fmt: skip
    return pb.TrainingData(log=pb.LogData(
        deployment=log.deployment, snapshot=snapshot, first_training_set=log.first_training_set,
        window_start=time_to(from_us(log.window_start_us)), window_end=time_to(from_us(log.window_end_us)),
        change_point=time_to(from_us(log.change_us)) if log.change_us is not None else None,
        unit_changes=[
            events_pb2.UnitChange(column=unit.column, factor=unit.factor, since=time_to(from_us(unit.since_us)))
            for unit in log.units
        ],
    ))  # fmt: skip


def requested_from(message: events_pb2.RetrainingRequested) -> Data:
    """The rows a retraining is asked to train on."""
    return Data(log=LogRows(
        message.deployment, snapshot_from(message.snapshot), us_from(message.window_start), us_from(message.window_end),
        us_from(message.change_point) if message.HasField("change_point") else None, message.first_training_set,
        units_from(message.unit_changes),
    ))  # fmt: skip


def units_from(messages: Iterable[events_pb2.UnitChange]) -> tuple[UnitChange, ...]:
    """Columns whose unit changed."""
    return tuple(UnitChange(message.column, message.factor, us_from(message.since)) for message in messages)


def snapshot_from(message: events_pb2.LogSnapshot) -> Snapshot:
    """A cut of the log."""
    return Snapshot(message.snapshot_id, message.manifest_key, message.manifest_sha256, message.rows, message.outcomes)


def job_to(job: Job) -> pb.Job:
    """The wire's job."""
    message = pb.Job(
        job_id=job.id, state=STATES[job.state], data=data_to(job.data), decision_id=job.decision_id, deployment=job.deployment,
        version=job.version, reason=job.reason, metrics=job.metrics, progress=job.progress, step=job.step,
        attempts=job.attempts, data_digest=job.data_digest, parent=job.parent,
        author=common_pb2.Actor(name=job.author.name, kind=job.author.kind, roles=job.author.roles),
        created_at=time_to(job.created_at), started_at=time_to(job.started_at), ended_at=time_to(job.ended_at),
    )  # fmt: skip
    message.recipe.CopyFrom(recipe_to(job.recipe) if job.recipe else pb.Recipe(model=job.model))
    return message


def event_id(job_id: str, change: int) -> str:
    """The id of a job's event: known before it is published, so that a registration can name its cause."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"job {job_id} {change}").hex


def state_changed(job: Job) -> Event:
    """The event of a job's new state, in its causal chain."""
    message = events_pb2.JobStateChanged(
        job_id=job.id, state=str(job.state), model=job.model, decision_id=job.decision_id, version=job.version,
        reason=job.reason, metrics=job.metrics,
    )  # fmt: skip
    return Event(
        topics.TRAINING, job.id, message, subject=f"job/{job.id}", time=job.event_time, aggregate=f"job/{job.id}",
        aggregate_version=job.changes, id=event_id(job.id, job.changes), correlation_id=job.correlation_id,
        causation_id=job.causation_id,
    )  # fmt: skip


def algorithm_to(algorithm: Algorithm) -> pb.Algorithm:
    """The wire's algorithm."""
    return pb.Algorithm(
        name=algorithm.name, description=algorithm.description, tasks=[task_to(task) for task in algorithm.tasks],
        hyperparameters=struct_to({name: one.default for name, one in algorithm.hyperparameters.items()}),
        missing=algorithm.missing(),
    )  # fmt: skip


def struct_to(values: Mapping[str, Any]) -> Struct:
    """Plain values as a Struct."""
    message = Struct()
    message.update(dict(values))
    return message


def us_from(time: Timestamp) -> int:
    """Microseconds since the epoch."""
    return time.seconds * 1_000_000 + time.nanos // 1000


def time_to(time: datetime | None) -> Timestamp | None:
    """The wire's time."""
    if time is None:
        return None
    us = to_us(time)
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1000)
