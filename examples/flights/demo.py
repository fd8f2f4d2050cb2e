"""The demo: a year of flights through a running platform, told as it goes."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from perennial.client import AsyncPerennial, Table
from perennial.v1.serving_pb2 import Deployment, RolloutState
from perennial.v1.trainer_pb2 import Job, JobState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from examples.flights import baselines, results, setup
from examples.flights.data import ZONE, Year, load, local_midnight
from examples.flights.replay import ETA, OPEN, Replay
from examples.flights.replay import Progress as Told
from examples.flights.setup import Plan

TELL_EVERY_DAYS = 7


@dataclass
class Story:
    """Tells what happens: a progress bar where somebody looks, a line a week elsewhere."""

    console: Console
    plan: Plan
    replay: Replay | None = None
    _bar: Progress | None = None
    _rollouts: dict[str, tuple[int, int]] = field(default_factory=dict)
    _jobs: dict[str, int] = field(default_factory=dict)

    def tell(self, text: str) -> None:
        """One line."""
        self.console.print(text, highlight=False)

    def on_tick(self, now: datetime, deployment: Deployment) -> None:
        """An hour is over."""
        local = now.astimezone(ZONE)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=1, what=f"{local:%d %b %H h}  {deployment.variants[0].version}")
        elif local.hour == 0 and (local.timetuple().tm_yday - 1) % TELL_EVERY_DAYS == 0:
            self.tell(f"  {local:%d %b}  champion {deployment.variants[0].version}")

    def on_job(self, job: Job) -> None:
        """A retraining moved."""
        if self._jobs.get(job.job_id) != job.state and job.ended_at.seconds:
            figures = f": {job.version}" if job.version else f": {job.reason}"
            self.tell(f"    retraining {JobState.Name(job.state).removeprefix('JOB_STATE_').lower()}{figures}")
        self._jobs[job.job_id] = job.state

    def on_deployment(self, now: datetime, deployment: Deployment) -> None:
        """The deployment changed: tell where its rollout is."""
        rollout = deployment.rollout
        if not rollout.rollout_id or self._rollouts.get(rollout.rollout_id) == (rollout.state, rollout.weight):
            return
        self._rollouts[rollout.rollout_id] = (rollout.state, rollout.weight)
        state = RolloutState.Name(rollout.state).removeprefix("ROLLOUT_STATE_").lower().replace("_", " ")
        share = f" {rollout.weight / 10:g} %" if state == "live" else ""
        why = f"  ({rollout.reason})" if rollout.state not in OPEN and rollout.reason else ""
        self.tell(f"  {now.astimezone(ZONE):%d %b %H h}  {rollout.challenger} {state}{share}{why}")

    async def replayed(self, replay: Replay) -> None:
        """The replay itself, under a progress bar when the console is a terminal."""
        start, end = local_midnight(self.plan.start), local_midnight(self.plan.end)
        if not self.console.is_terminal:
            await replay.run(start, end)
            return
        columns = (
            TextColumn("{task.fields[what]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            bar.add_task("replay", total=int((end - start).total_seconds() // 3600), what="")
            self._bar = bar
            await replay.run(start, end)
        self._bar = None


async def run(plan: Plan, *, env_file: Path, output: Path, json_file: Path | None, console: Console) -> results.Results:
    """Drives the platform through the plan; leaves report.html and report.png in ``output``."""
    from examples.flights import report

    began = time.monotonic()
    story = Story(console, plan)
    kilometres = local_midnight(plan.kilometres_from) if plan.kilometres_from is not None else None
    year = load(kilometres_from=kilometres)
    async with AsyncPerennial(env_file=env_file) as platform:
        replay = Replay(platform, year, Told(story.on_tick, story.on_job, story.on_deployment))
        await setup.prepare(platform, replay, plan, year.planes, story.tell)
        first, last = (local_midnight(day).astimezone(ZONE) for day in (plan.start, plan.end))
        story.tell(f"replaying {first:%d %b} to {last:%d %b}, an hour a tick")
        await story.replayed(replay)
        found = await results.collect(platform, replay, plan)
        story.tell("reading the prediction log for the comparisons")
        await compare(platform, year, found, env_file, output)
    found.seconds = time.monotonic() - began
    report.show(found, console)
    report.write(found, output)
    if json_file is not None:
        report.write_json(found, json_file)
    console.print(f"report: {output / 'report.html'}", highlight=False)
    return found


async def compare(platform: AsyncPerennial, year: Year, found: results.Results, env_file: Path, output: Path) -> None:
    """The first model left alone, the even schedule, and the check of the logged features."""
    objects = open_store(env_file)
    snapshot = await platform.monitoring.snapshot(ETA)
    log = await baselines.read_log(objects, snapshot)
    package = await platform.models.download(ETA, "1.0.0", output / "first-model")
    known = log.rows.filter(pl.col("truth").is_not_null())
    static = known.select("event_time_us").with_columns(error=pl.Series(baselines.left_alone(log, package)))
    static = static.group_by(day=results.local_day("event_time_us")).agg(pl.col("error").sum(), count=pl.len())
    found.mae_static = results.mean_error(static)
    found.months = results.by_month(found.daily, {"mae_static": static})

    async def table(description: Any) -> pl.DataFrame:
        return pl.read_parquet(io.BytesIO(await objects.get(description.object_key)))

    found.features_checked, found.features_different = await results.check_features(platform, year, log.rows, log.columns, table)
    deployment = await platform.deployments.get(ETA)
    first = await table(await platform.features.get_training_set(deployment.spec.training_set))
    found.mae_even = await asyncio.to_thread(
        baselines.even_schedule, log, first, found.plan, len(found.retrains), fitting(log.columns, first)
    )


def open_store(env_file: Path) -> Any:
    """The platform's objects, by the settings it wrote."""
    import os

    from perennial.runtime.config import ServiceConfig
    from perennial.runtime.objects import open_objects

    os.environ["PERENNIAL_ENV_FILE"] = str(env_file)
    return open_objects(ServiceConfig())


def fitting(columns: tuple[str, ...], first: pl.DataFrame) -> Any:
    """The platform's own recipe as a function: rows and truths in, a function of rows out."""
    from perennial.package import Column, ColumnType, Signature

    from services.trainer.algorithms import Problem, named

    algorithm = named("lightgbm")
    kinds = {name: ColumnType.TEXT if first[name].dtype == pl.String else ColumnType.NUMBER for name in columns}
    signature = Signature.of(Column(name, kind, nullable=True) for name, kind in kinds.items())

    def fit(rows: Table, truths: NDArray[np.float64]) -> Any:
        fitted = algorithm.fit(signature.check(rows), truths, Problem(signature, algorithm.checked({}), seed=0, threads=1))
        return lambda asked: fitted.predict(signature.check(asked)).reshape(-1)

    return fit
