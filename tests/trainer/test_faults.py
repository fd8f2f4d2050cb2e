"""What a job survives: the death of its trainer at any step, of its child, a cancel at any time."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from perennial import topics
from perennial.errors import FailedPrecondition
from perennial.v1 import registry_pb2
from perennial.v1 import trainer_pb2 as pb

from tests.trainer import rows
from tests.trainer.flows import built, recipe, submitted
from tests.trainer.platform import Platform

LONG = 1000
"""Rounds of a job that takes many seconds."""


def children_of_server(trainer: int) -> list[int]:
    """Processes that train now: grandchildren of the trainer, forked by its server."""

    def children(pid: int) -> list[int]:
        found = []
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
        return found

    return [grandchild for child in children(trainer) for grandchild in children(child)]


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


async def gone(pids: list[int]) -> None:
    """Wait until none of them runs."""
    async with asyncio.timeout(10):
        while any(alive(pid) for pid in pids):
            await asyncio.sleep(0.05)


def training(job: pb.Job) -> bool:
    """Whether the child has begun to fit."""
    return job.state == pb.JOB_STATE_RUNNING and "fold" in job.step


async def versions(platform: Platform, model: str) -> list[str]:
    """The numbers of a model's versions."""
    request = registry_pb2.ListModelVersionsRequest(name=model)
    return [v.version for v in (await platform.call("registry", "ListModelVersions", request)).model_versions]


async def test_a_killed_trainer_takes_its_job_again(platform: Platform) -> None:
    """F02: kill −9 while the child trains; its child ends with it, the next trainer finishes the job, once."""
    digest = await built(platform, rows.frame())
    job = await submitted(platform, recipe("killed", rounds=LONG), pb.TrainingData(training_set=digest))
    await platform.watched(job.job_id, until=training)
    trainer = platform.programs["trainer"]
    working = children_of_server(trainer.process.pid)
    assert working, "no child was training: the kill would not have bitten"
    await trainer.kill()
    await gone(working)
    await platform.start("trainer")
    ended = await platform.finished(job.job_id)
    assert ended.state == pb.JOB_STATE_SUCCEEDED, ended
    assert ended.attempts == 2
    assert await versions(platform, "killed") == ["1.0.0"]


@pytest.mark.parametrize("point", ["trainer.before_registering", "trainer.registering", "trainer.registered"])
async def test_a_trainer_killed_around_the_registration_registers_once(platform: Platform, point: str) -> None:
    """F02: whichever side of the registry's answer the trainer dies on, there is one version and one job."""
    await platform.programs["trainer"].stop()
    dying = await platform.start("trainer", PERENNIAL_CRASH_AT=f"{point}:1")
    model = point.rsplit(".", 1)[1]
    digest = await built(platform, rows.frame(seed=3))
    job = await submitted(platform, recipe(model), pb.TrainingData(training_set=digest), request_id=f"r-{model}")
    code = await asyncio.wait_for(dying.process.wait(), 60)
    assert code == -signal.SIGKILL
    await platform.start("trainer")
    ended = await platform.finished(job.job_id)
    assert (ended.state, ended.version) == (pb.JOB_STATE_SUCCEEDED, "1.0.0"), ended
    assert await versions(platform, model) == ["1.0.0"]
    said = await platform.heard(topics.MODELS, 1, lambda e: getattr(e.message, "job_id", "") == job.job_id)
    assert getattr(said[0].message, "version", "") == "1.0.0"


async def test_a_killed_child_is_started_again(platform: Platform) -> None:
    """A training process that is killed (out of memory, say) costs an attempt, not the job."""
    digest = await built(platform, rows.frame())
    job = await submitted(platform, recipe("child", rounds=LONG), pb.TrainingData(training_set=digest))
    await platform.watched(job.job_id, until=training)
    for pid in children_of_server(platform.programs["trainer"].process.pid):
        os.kill(pid, signal.SIGKILL)
    ended = await platform.finished(job.job_id)
    assert (ended.state, ended.attempts) == (pb.JOB_STATE_SUCCEEDED, 2), ended


async def test_a_cancelled_job_ends_at_once_and_its_child_with_it(platform: Platform) -> None:
    """TRN-08: cancelling while it trains kills the child; nothing is registered; a second cancel is refused."""
    digest = await built(platform, rows.frame())
    job = await submitted(platform, recipe("stopped", rounds=10_000), pb.TrainingData(training_set=digest))
    await platform.watched(job.job_id, until=training)
    working = children_of_server(platform.programs["trainer"].process.pid)
    assert working
    request = pb.CancelJobRequest(job_id=job.job_id, reason="not needed", request_id="c1")
    answer = await platform.call("trainer", "CancelJob", request)
    assert (answer.job.state, answer.job.reason) == (pb.JOB_STATE_CANCELLED, "not needed")
    await gone(working)
    again = pb.CancelJobRequest(job_id=job.job_id, reason="not needed", request_id="c2")
    with pytest.raises(FailedPrecondition, match="has ended"):
        await platform.call("trainer", "CancelJob", again)
    assert (await platform.finished(job.job_id)).state == pb.JOB_STATE_CANCELLED


async def test_a_job_waits_for_a_registry_that_is_away(platform: Platform) -> None:
    """What the registry cannot take now is kept and registered when it is back."""
    digest = await built(platform, rows.frame(seed=5))
    job = await submitted(platform, recipe("patient", rounds=1500), pb.TrainingData(training_set=digest))
    await platform.watched(job.job_id, until=training)
    await platform.programs["registry"].kill()
    await platform.watched(job.job_id, until=lambda j: j.step.startswith("waits"))
    await platform.start("registry")
    ended = await platform.finished(job.job_id)
    assert (ended.state, ended.version) == (pb.JOB_STATE_SUCCEEDED, "1.0.0"), ended
