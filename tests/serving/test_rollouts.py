"""Rollouts in event time: shadow, live, promoted, declined, aborted, resumed."""

import secrets
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from perennial.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from perennial.topics import DEPLOYMENT_STATE, DEPLOYMENTS, MODELS, MONITORING, PREDICTIONS
from perennial.v1 import serving_pb2 as pb
from perennial.v1.events_pb2 import PairedBlock, VariantsCompared

from tests.serving import models
from tests.serving.world import HOUR_US, START, Ledger, World, at, ids, stamp, until, values


async def started(world: World, model: str) -> str:
    """A deployment in event time that rolls out by itself."""
    await world.register(model, models.prices())
    rollout = pb.RolloutPolicy(auto=True)
    deployment = (await world.deploy(model, time=pb.TIME_MODE_EVENT, rollout=rollout)).spec.name
    await hour(world, deployment, 0)
    return deployment


async def hour(world: World, deployment: str, h: int, count: int = 50) -> pb.PredictResponse:
    """One hour of a replay: predictions in it, then the watermark at its end."""
    asked = models.rows(count)
    times = [at(h) + i * 1000 for i in range(count)]
    answer = await world.predict(deployment, asked, keys=[f"e{i}" for i in range(count)], times=times)
    await world.advance(deployment, at(h + 1))
    return answer


def block(h: int, champion: float, challenger: float, count: int = 50) -> PairedBlock:
    """The figures of hour ``h``."""
    return PairedBlock(
        start=stamp(at(h)), end=stamp(at(h + 1)), count=count, champion_loss=champion * count, challenger_loss=challenger * count,
        squared_difference=(champion - challenger) ** 2 * count,
    )  # fmt: skip


async def compared(world: World, rollout: pb.Rollout, hours: Sequence[int], challenger: float, *, count: int = 50) -> None:
    """What the monitor says after those hours, of a champion with loss 10."""
    message = VariantsCompared(
        deployment=rollout.deployment, rollout=rollout.rollout_id, champion=rollout.champion, challenger=rollout.challenger,
        blocks=[block(h, 10.0, challenger, count) for h in hours], as_of=stamp(at(hours[-1] + 1)), day_spread=0.02,
        shadow_rows=50 * len(hours),
    )  # fmt: skip
    await world.publish(MONITORING, rollout.deployment, message)


async def in_shadow(world: World, model: str, deployment: str, made: object = None, h: int = 1) -> pb.Rollout:
    """A newer version in shadow from hour ``h`` on."""
    decision = secrets.token_hex(16)
    version = await world.register(model, made or models.prices(2.0), deployment=deployment, decision=decision)  # type: ignore[arg-type]
    after = await world.settle(deployment, at(h), [version])
    assert (after.rollout.state, after.rollout.challenger) == (pb.ROLLOUT_STATE_SHADOW, version)
    assert after.rollout.started_at == stamp(at(h))
    assert after.rollout.decision_id == decision
    return after.rollout


async def test_a_better_version_goes_through_shadow_and_live_to_champion(world: World, model: str) -> None:
    """SRV-04, SRV-06: copies first, then 10, 50, 100 % of the traffic an hour each, then the alias; one chain of events."""
    deployment = await started(world, model)
    rollout = await in_shadow(world, model, deployment)
    copies = []
    for h in range(1, 9):
        copies += ids(await hour(world, deployment, h))
    await compared(world, rollout, range(1, 9), 5.0)
    live = await world.settle(deployment, at(9))
    assert (live.rollout.state, live.rollout.weight) == (pb.ROLLOUT_STATE_LIVE, 100)
    assert live.rollout.gain == pytest.approx(0.5)
    chosen: set[int] = set()
    for h, weight in ((9, 100), (10, 500), (11, 1000)):
        answer = await hour(world, deployment, h)
        keys = {row for run in answer.runs if run.variant == "challenger" for row in (run.rows or range(run.count))}
        assert chosen <= keys, "a key that went over stays over"
        chosen = keys
        assert abs(len(keys) - weight / 20) <= 14
        factors = [2.0 if i in keys else 1.0 for i in range(50)]
        assert values(answer) == pytest.approx([f * v for f, v in zip(factors, models.expected(models.rows(50)), strict=True)])
        after = await world.settle(deployment, at(h + 1))
    assert len(chosen) == 50
    assert after.rollout.rollout_id == ""
    assert [(v.name, v.version, v.weight) for v in after.variants] == [("champion", rollout.challenger, 1000)]
    assert await world.alias(model) == rollout.challenger
    [ended] = await world.rollouts(deployment)
    assert ended.state == pb.ROLLOUT_STATE_PROMOTED
    assert ended.ended_at == stamp(at(12))
    await chain_is_whole(world, deployment, rollout)
    ledger = await Ledger.of(world, PREDICTIONS, deployment)
    doubled = dict(zip(copies, [2 * v for v in models.expected(models.rows(50)) * 8], strict=True))
    found = {(stream, n): value for (stream, n, version), (value, status) in ledger.shadows.items() if not status}
    assert found == pytest.approx(doubled)


async def chain_is_whole(world: World, deployment: str, rollout: pb.Rollout) -> None:
    """Every fact of the rollout names the registration as its first event and the fact before it as its cause."""

    async def promoted() -> list[tuple[dict[str, bytes], object]]:
        found = [(h, m) for h, m in await world.events(DEPLOYMENTS) if m.rollout.deployment == deployment]
        return found if found and found[-1][0]["ce_type"] == b"Promoted" else []

    facts = await until(promoted, "Promoted on the topic")
    registered = [
        h for h, m in await world.events(MODELS)
        if h["ce_type"] == b"ModelVersionRegistered" and m.deployment == deployment
    ]  # fmt: skip
    assert [h["ce_type"] for h, _ in facts] == [b"RolloutStepped"] * 4 + [b"Promoted"]
    causes = [registered[0]["ce_id"], *[h["ce_id"] for h, _ in facts[:-1]]]
    assert [h["ce_causationid"] for h, _ in facts] == causes
    assert {h["ce_correlationid"] for h, _ in facts} == {registered[0]["ce_correlationid"]}
    assert rollout.correlation_id.encode() == registered[0]["ce_correlationid"]
    states = [m.deployment for _, m in await world.events(DEPLOYMENT_STATE) if m.deployment.spec.name == deployment]
    assert [s.state_version for s in states] == list(range(1, 7))


async def test_a_worse_version_is_declined_in_shadow(world: World, model: str) -> None:
    """R07: a challenger that does harm never answers a caller."""
    deployment = await started(world, model)
    rollout = await in_shadow(world, model, deployment)
    for h in range(1, 8):
        answer = await hour(world, deployment, h)
        assert {run.variant for run in answer.runs} == {"champion"}
    await compared(world, rollout, range(1, 8), 15.0)
    after = await world.settle(deployment, at(8))
    assert after.rollout.rollout_id == ""
    [ended] = await world.rollouts(deployment)
    assert ended.state == pb.ROLLOUT_STATE_DECLINED
    assert ended.gain == pytest.approx(-0.5)
    assert await world.alias(model) == "1.0.0"


async def test_settle_waits_for_the_monitor(world: World, model: str) -> None:
    """Without the comparison of the hour a settle does not act; with it, it does."""
    deployment = await started(world, model)
    rollout = await in_shadow(world, model, deployment)
    await hour(world, deployment, 1)
    with pytest.raises(DeadlineExceeded):
        await world.settle(deployment, at(2), timeout=1.5)
    await compared(world, rollout, range(1, 2), 9.0)
    after = await world.settle(deployment, at(2))
    assert after.rollout.state == pb.ROLLOUT_STATE_SHADOW
    with pytest.raises(DeadlineExceeded):
        await world.settle(deployment, at(2), ["9.9.9"], timeout=1.5)


async def test_a_person_who_moves_the_alias_ends_the_rollout(world: World, model: str) -> None:
    """SRV-17: a roll-back in the registry is one in serving, within two seconds."""
    deployment = await started(world, model)
    rollout = await in_shadow(world, model, deployment)
    other = await world.register(model, models.prices(3.0))
    await world.move_alias(model, other)

    async def converged() -> bool:
        return (await world.deployment(deployment)).variants[0].version == other

    await until(converged, "the deployment follows the alias", 5)
    [ended] = await world.rollouts(deployment)
    assert (ended.rollout_id, ended.state) == (rollout.rollout_id, pb.ROLLOUT_STATE_ABORTED)
    answer = await hour(world, deployment, 1)
    assert values(answer) == pytest.approx([3 * v for v in models.expected(models.rows(50))])
    await world.move_alias(model, "1.0.0")

    async def back() -> bool:
        return (await world.deployment(deployment)).variants[0].version == "1.0.0"

    await until(back, "the deployment goes back with the alias", 5)


async def test_a_newer_version_takes_the_place_of_one_that_waits(world: World, model: str) -> None:
    """One rollout at a time; of those that wait only the newest is kept."""
    deployment = await started(world, model)
    rollout = await in_shadow(world, model, deployment)
    second = await world.register(model, models.prices(3.0), deployment=deployment)
    third = await world.register(model, models.prices(4.0), deployment=deployment)
    await hour(world, deployment, 1)
    await compared(world, rollout, range(1, 2), 9.0)
    await world.settle(deployment, at(2), [second, third])
    states = {r.challenger: r.state for r in await world.rollouts(deployment)}
    assert states == {
        rollout.challenger: pb.ROLLOUT_STATE_SHADOW, second: pb.ROLLOUT_STATE_ABORTED, third: pb.ROLLOUT_STATE_PENDING,
    }  # fmt: skip
    await world.call("AbortRollout", pb.AbortRolloutRequest(rollout_id=rollout.rollout_id, reason="by hand"))
    after = await world.deployment(deployment)
    assert (after.rollout.challenger, after.rollout.state) == (third, pb.ROLLOUT_STATE_SHADOW)
    with pytest.raises(FailedPrecondition):
        await world.call("AbortRollout", pb.AbortRolloutRequest(rollout_id=rollout.rollout_id))


@pytest.mark.parametrize("point", ["serving.before_alias", "serving.after_alias", "serving.after_rollout.promote"])
async def test_a_kill_while_promoting_is_gone_on_with(world: World, model: str, point: str) -> None:
    """F02: at every point of a promotion a kill -9 leaves something the next process finishes, once."""
    deployment = await started(world, model)
    rollout = await in_shadow(world, model, deployment)
    for h in range(1, 8):
        await hour(world, deployment, h)
    await compared(world, rollout, range(1, 8), 5.0)
    await world.settle(deployment, at(8))
    for h in (9, 10):
        await world.settle(deployment, at(h))
    await world.serving.restart(PERENNIAL_CRASH_AT=point)
    with pytest.raises((Unavailable, DeadlineExceeded)):  # the process dies under the call
        await world.settle(deployment, at(11))
    await world.serving.ended()
    await world.serving.start(PERENNIAL_CRASH_AT="")
    after = await world.settle(deployment, at(11))
    assert (after.variants[0].version, after.rollout.rollout_id) == (rollout.challenger, "")
    assert await world.alias(model) == rollout.challenger

    async def promoted() -> list[object]:
        facts = await world.events(DEPLOYMENTS)
        return [h for h, m in facts if m.rollout.deployment == deployment and h["ce_type"] == b"Promoted"]

    assert len(await until(promoted, "Promoted on the topic")) == 1


async def test_a_challenger_that_gives_no_number_is_taken_out_at_once(world: World, model: str) -> None:
    """F06: its rows are the champion's in the same call, and the rollout is rolled back."""
    deployment = await started(world, model)
    rollout = await in_shadow(world, model, deployment, models.prices(2.0, failing="nan"))
    for h in range(1, 8):
        await hour(world, deployment, h)
    await compared(world, rollout, range(1, 8), 5.0)
    assert (await world.settle(deployment, at(8))).rollout.state == pb.ROLLOUT_STATE_LIVE
    asked: dict[str, list[Any]] = {"rooms": [9.0] * 100, "area": [1.0] * 100, "district": ["north"] * 100}
    answer = await world.predict(deployment, asked, keys=[f"e{i}" for i in range(100)], times=[at(8)] * 100)
    assert values(answer) == pytest.approx(models.expected(asked))
    assert {run.variant for run in answer.runs} == {"champion"}

    async def rolled_back() -> bool:
        return (await world.rollouts(deployment))[0].state == pb.ROLLOUT_STATE_ROLLED_BACK

    await until(rolled_back, "rolled back", 5)
    await world.advance(deployment, at(9))
    ledger = await until(lambda: _rows(world, deployment, 50 * 8 + 100), "the rows on the topic")
    assert max(ledger.statuses[place] for place in ids(answer)) == 1


async def test_shadow_answers_that_fail_decline_the_rollout(world: World, model: str) -> None:
    """A challenger that throws in shadow never goes live."""
    deployment = await started(world, model)
    await in_shadow(world, model, deployment, models.prices(2.0, failing="throws"))
    await hour(world, deployment, 1)

    async def declined() -> bool:
        return (await world.rollouts(deployment))[0].state == pb.ROLLOUT_STATE_DECLINED

    await until(declined, "declined", 5)


async def test_without_outcomes_it_goes_on_by_guardrails_or_declines(world: World, model: str) -> None:
    """Past the label horizon a rollout without outcomes is unjudged."""
    await world.register(model, models.prices())
    policy = pb.MonitoringPolicy(label_horizon=Duration(seconds=2 * 86400))
    deployment = (
        await world.deploy(model, time=pb.TIME_MODE_EVENT, rollout=pb.RolloutPolicy(auto=True), monitoring=policy)
    ).spec.name
    await hour(world, deployment, 0)
    rollout = await in_shadow(world, model, deployment)
    await compared(world, rollout, range(1, 48), 0.0, count=0)
    assert (await world.settle(deployment, at(48))).rollout.state == pb.ROLLOUT_STATE_SHADOW
    await compared(world, rollout, range(1, 49), 0.0, count=0)
    after = await world.settle(deployment, at(49))
    assert (after.rollout.state, after.rollout.unjudged) == (pb.ROLLOUT_STATE_LIVE, True)


async def _rows(world: World, deployment: str, count: int) -> Ledger | None:
    ledger = await Ledger.of(world, PREDICTIONS, deployment)
    return ledger if len(ledger.rows) >= count else None


assert START.timestamp() * 1e6 % HOUR_US == 0
