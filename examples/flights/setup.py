"""What does the platform need to know before the replay? Views, their history, two models and two deployments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from google.protobuf.duration_pb2 import Duration
from perennial.client import AsyncPerennial
from perennial.clock import to_us
from perennial.v1.feature_pb2 import TrainingSet
from perennial.v1.serving_pb2 import TIME_MODE_EVENT, DeploymentSpec, MonitoringPolicy, RolloutPolicy
from perennial.v1.trainer_pb2 import JOB_STATE_SUCCEEDED, Job

from examples.flights.data import local_midnight
from examples.flights.replay import ETA, LATE, Replay, as_rows, load_history
from examples.flights.views import REQUEST_NUMBERS, REQUEST_TEXTS, VIEWS, bindings, joins, model_columns

DAY_S = 86_400
PLANES_AT_ONCE = 2_000
WARM_UP = 8  # days: the longest window is seven


@dataclass(frozen=True)
class Plan:
    """Which days of the year are trained on first and replayed then (0 = 1 January), and what goes wrong on the way."""

    train_from: int = 0
    start: int = 31
    end: int = 365
    kilometres_from: int | None = None
    train_until: int = 31


YEAR = Plan()
FAST = Plan(start=59, end=71)
INCIDENT = Plan(train_from=94, train_until=150, start=150, end=212, kilometres_from=200)


async def declare(platform: AsyncPerennial, planes: pl.DataFrame) -> None:
    """Declares the views and writes the register of planes."""
    for view in VIEWS:
        await platform.features.register(view)
    for start in range(0, len(planes), PLANES_AT_ONCE):
        part = planes.slice(start, PLANES_AT_ONCE)
        times = part["event_time_us"].to_numpy()
        await platform.features.write({"planes": (as_rows(part, ("tailnum", "built", "seats")), times, times)})


async def prepare(
    platform: AsyncPerennial, replay: Replay, plan: Plan, planes: pl.DataFrame, tell: Callable[[str], None]
) -> None:
    """Everything up to the first prediction."""
    tell(f"declaring {len(VIEWS)} feature views and writing the days before day {plan.start}")
    await declare(platform, planes)
    await load_history(replay, plan.train_from - WARM_UP, plan.train_until)
    table = await training_set(platform, replay.flights, plan)
    tell(f"training set {table.digest[:12]}: {table.rows:,} flights x {len(table.columns)} columns, joined point in time")
    for model, target, task in ((ETA, "air_time", "regression"), (LATE, "is_late", "classification")):
        job = await train(platform, model, target, task, table.digest)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in sorted(job.metrics.items())[:4])
        tell(f"{model} {job.version} trained and registered ({figures})")
        await platform.deployments.create(specification(model, table.digest, task))
    if plan.start > plan.train_until:  # the windows must be full at the first prediction
        await load_history(replay, max(plan.train_until, plan.start - WARM_UP), plan.start)


async def training_set(platform: AsyncPerennial, flights: pl.DataFrame, plan: Plan) -> TrainingSet:
    """The first training set: flights of the training days whose truth was known at their end."""
    start, end = to_us(local_midnight(plan.train_from)), to_us(local_midnight(plan.train_until))
    known = flights.filter((pl.col("event_time_us") >= start) & (pl.col("known_at_us") < end))
    rows = as_rows(known, (*REQUEST_NUMBERS, *REQUEST_TEXTS, "tailnum", "air_time", "is_late"))
    return await platform.features.training_set(
        rows, known["event_time_us"].to_numpy(), joins(), labels=("air_time", "is_late"), name="flights-first",
        entity_keys=known["flight"].to_list(),
    )  # fmt: skip


async def train(platform: AsyncPerennial, model: str, target: str, task: str, digest: str) -> Job:
    """Trains and registers the first version, as champion."""
    job = await platform.training.submit(
        model,
        training_set=digest,
        target=target,
        task=task,
        algorithm="lightgbm",
        columns=model_columns(),
        first_alias="champion",
    )
    done = await platform.training.wait(job.job_id)
    if done.state != JOB_STATE_SUCCEEDED:
        raise RuntimeError(f"training {model} ended in state {done.state}: {done.reason}")
    return done


def specification(model: str, training_set: str, task: str) -> DeploymentSpec:
    """The deployment of a model: the ETA is retrained by the platform, the other only watched."""
    retrained = task == "regression"
    return DeploymentSpec(
        name=model,
        model=model,
        time=TIME_MODE_EVENT,
        features=bindings(),
        training_set=training_set,
        rollout=RolloutPolicy(auto=retrained),
        monitoring=MonitoringPolicy(
            time_zone="America/New_York", outcomes=True, retrain=retrained, label_horizon=Duration(seconds=DAY_S),
        ),
    )  # fmt: skip
