"""What tests of jobs do again and again."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
from google.protobuf.timestamp_pb2 import Timestamp
from perennial import topics
from perennial.clock import from_us
from perennial.frames import Table, encode
from perennial.runtime.events import Event
from perennial.v1 import common_pb2, events_pb2, feature_pb2
from perennial.v1 import trainer_pb2 as pb

from tests.trainer import rows
from tests.trainer.platform import Platform


async def built(platform: Platform, data: pl.DataFrame) -> str:
    """The digest of a training set built by the feature store."""
    header = feature_pb2.TrainingSetHeader(name="t", label_columns=["target", "kind"])
    columns = {name: data[name].to_list() for name in (*rows.INPUTS, "target", "kind")}

    async def parts() -> AsyncIterator[feature_pb2.BuildTrainingSetRequest]:
        yield feature_pb2.BuildTrainingSetRequest(header=header)
        for start in range(0, data.height, 500):
            piece = {name: values[start : start + 500] for name, values in columns.items()}
            yield feature_pb2.BuildTrainingSetRequest(rows=feature_pb2.TrainingRows(
                rows=encode(Table.of(piece)), event_times_us=data["event_time_us"].to_list()[start : start + 500],
                entity_keys=data["entity_key"].to_list()[start : start + 500],
            ))  # fmt: skip

    answer = await platform.call("feature", "BuildTrainingSet", parts())
    digest: str = answer.training_set.digest
    return digest


def recipe(model: str, *, rounds: int = 30, parameters: dict[str, Any] | None = None, **more: Any) -> pb.Recipe:
    """A small recipe for the made-up rows."""
    fields: dict[str, Any] = {"algorithm": "lightgbm", "task": common_pb2.TASK_REGRESSION, "target": "target", "seed": 7} | more
    made = pb.Recipe(model=model, **fields)
    made.hyperparameters.update({"rounds": rounds} if parameters is None else parameters)
    return made


async def submitted(platform: Platform, made: pb.Recipe, data: pb.TrainingData, **more: Any) -> pb.Job:
    """A queued job."""
    answer = await platform.call("trainer", "SubmitTraining", pb.SubmitTrainingRequest(recipe=made, data=data, **more))
    job: pb.Job = answer.job
    return job


async def first_version(platform: Platform, model: str, data: pl.DataFrame, **more: Any) -> tuple[str, pb.Job]:
    """A model with version 1.0.0: the digest of its training set, and its job."""
    digest = await built(platform, data)
    job = await submitted(platform, recipe(model, **more), pb.TrainingData(training_set=digest), first_alias="champion")
    ended = await platform.finished(job.job_id)
    assert ended.state == pb.JOB_STATE_SUCCEEDED, ended
    return digest, ended


async def snapshot(platform: Platform, deployment: str, *logs: rows.Log) -> events_pb2.LogSnapshot:
    """Logs, stored as the monitor stores them."""
    files = []
    for log in logs:
        for kind, frame in (("predictions", log.predictions), ("outcomes", log.outcomes)):
            key, digest = await platform.put(f"log/{deployment}/day", rows.parquet(frame))
            entry: dict[str, Any] = {"key": key, "sha256": digest, "rows": frame.height, "kind": kind}
            if kind == "predictions":
                entry |= {"from_us": frame["event_time_us"].min(), "to_us": frame["event_time_us"].max()}
            files.append(entry)
    key, digest = await platform.manifest(deployment, files)
    return events_pb2.LogSnapshot(snapshot_id="s", manifest_key=key, manifest_sha256=digest)


def stamp(us: int) -> Timestamp:
    """The wire's time."""
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1000)


def requested(decision: str, model: str, cut: events_pb2.LogSnapshot, window: tuple[int, int], **more: Any) -> Event:
    """The monitor's request, in a chain that began with something else."""
    message = events_pb2.RetrainingRequested(
        decision_id=decision, deployment=f"{model}-live", model=model, version="1.0.0", trigger="performance", reason="test",
        window_start=stamp(window[0]), window_end=stamp(window[1]), snapshot=cut, **more,
    )  # fmt: skip
    return Event(
        topics.RETRAINING, model, message, time=from_us(window[1]), correlation_id=f"chain-{decision}",
        causation_id=f"drift-{decision}",
    )  # fmt: skip


def now() -> datetime:
    """Wall time."""
    return datetime.now(UTC)
