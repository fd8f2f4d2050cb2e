"""Does the loop close, exactly, when agent, serving and trainer are killed in the middle of it?"""

from __future__ import annotations

import asyncio

import pytest
from perennial.client import AsyncPerennial
from perennial.testing.plugin import StartService
from perennial.v1.serving_pb2 import ROLLOUT_STATE_PROMOTED
from perennial.v1.trainer_pb2 import JOB_STATE_QUEUED, JOB_STATE_SUCCEEDED

from tests.loop.conftest import NAME, Driver, totals
from tests.loop.stream import HOUR, START, Hour

TRAINED, CHANGED, END = 8, 12, 24
# What a chain from a decayed block to a promotion cannot lack.
STEPS = ["RetrainingRequested", "JobStateChanged", "ModelVersionRegistered", "RolloutStepped", "AliasMoved", "Promoted"]


@pytest.fixture(scope="module")
async def replayed(client: AsyncPerennial, service_process: StartService) -> tuple[Driver, dict[str, int]]:
    """The stream from day 8 to 24, the world changing on day 12; three services die on the way. And what each death did."""
    driver = Driver(client, changed_on=CHANGED)
    await driver.prepare(TRAINED)
    bitten: dict[str, int] = {}

    async def kill(name: str) -> None:
        process = await service_process(name)
        await process.kill()
        bitten[name] = process.pid
        await process.start()
        assert process.pid != bitten[name]

    async def before(hour: Hour) -> None:
        if hour.start == START + (TRAINED + 2) * 24 * HOUR + 5 * HOUR:
            await kill("monitor")
        elif hour.start == START + (TRAINED + 3) * 24 * HOUR + 9 * HOUR:
            await asyncio.sleep(0.005)  # the hour's predictions are on their way
            await kill("serving")

    killer = asyncio.create_task(_kill_trainer(client, kill))
    await driver.replay(TRAINED, END, before=before)
    killer.cancel()
    return driver, bitten


async def _kill_trainer(client: AsyncPerennial, kill: object) -> None:
    """Kills the trainer as soon as the first retraining runs."""
    assert callable(kill)
    while True:
        async for job in client.training.jobs():
            if job.decision_id and job.state > JOB_STATE_QUEUED and job.state < JOB_STATE_SUCCEEDED:
                await kill("trainer")
                return
        await asyncio.sleep(0.02)


async def test_every_prediction_is_counted_once(client: AsyncPerennial, replayed: tuple[Driver, dict[str, int]]) -> None:
    """What the client was told equals what the ledger counts, although the agent and serving died."""  # SRV-20 MON-02
    driver, _ = replayed
    ledger = totals((await client.monitoring.ledger(NAME)).lines)
    assert ledger == {"counted": driver.acknowledged, "late": 0, "dead_lettered": 0, "dropped": 0, "missing": 0}


async def test_each_death_was_felt(client: AsyncPerennial, replayed: tuple[Driver, dict[str, int]]) -> None:
    """A kill that changes nothing proves nothing: each service had to start anew, and the job was taken a second time."""
    driver, bitten = replayed
    assert set(bitten) == {"monitor", "serving", "trainer"}
    assert any(job.attempts > 1 for job in driver.jobs)


async def test_the_loop_closes(client: AsyncPerennial, replayed: tuple[Driver, dict[str, int]]) -> None:
    """The change is noticed, retrained, rolled out and promoted, and the error comes back."""  # TRN-30 MON-06 MON-28
    driver, _ = replayed
    rollouts = [rollout async for rollout in client.deployments.rollouts(NAME)]
    promoted = [rollout for rollout in rollouts if rollout.state == ROLLOUT_STATE_PROMOTED]
    assert promoted
    assert driver.mae(TRAINED) < 2
    assert driver.mae(CHANGED) > 6
    assert driver.mae(END - 1) < driver.mae(CHANGED) / 2


async def test_the_chain_tells_the_whole_story(client: AsyncPerennial, replayed: tuple[Driver, dict[str, int]]) -> None:
    """One correlation id leads from the decayed block to the promotion, every event naming the one before."""  # GOV-04
    rollouts = [rollout async for rollout in client.deployments.rollouts(NAME)]
    promoted = next(rollout for rollout in rollouts if rollout.state == ROLLOUT_STATE_PROMOTED)
    chain = await client.models.chain(promoted.correlation_id)
    types = [event.type for event in chain]
    assert [name for name in STEPS if name not in types] == []
    known = {event.id for event in chain}
    assert all(event.causation_id in known for event in chain if event.id != promoted.correlation_id)


async def test_no_version_is_registered_twice(client: AsyncPerennial, replayed: tuple[Driver, dict[str, int]]) -> None:
    """A job that was taken again registers what it made once, and each retraining ends in one version at most."""
    versions = [version async for version in client.models.versions(NAME)]
    jobs = [version.lineage.job_id for version in versions]
    assert len(jobs) == len(set(jobs))
