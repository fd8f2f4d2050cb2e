"""What the monitor tells a rollout: one comparison an hour, paired on the same outcomes, whatever came first."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from perennial.topics import MONITORING
from perennial.v1 import events_pb2 as pb
from perennial.v1 import monitor_pb2 as api
from perennial.v1 import serving_pb2

from services.monitor import wire
from services.monitor.domain.time import HOUR_US
from tests.monitor.world import T0, World


async def test_every_full_hour_is_compared_once_and_shadow_answers_pair_with_their_outcomes(world: World) -> None:  # SRV rollouts
    """Shadow answers before, after and without their outcome; hours without rows are published too; sums are those of numpy."""
    d = await world.deployed()
    await d.hour(T0, settle=True)
    await d.changed(rollout=d.rollout(T0 + HOUR_US))
    losses: dict[int, tuple[float, float, int]] = {}
    for hour in (1, 2, 3):
        us = T0 + hour * HOUR_US
        ids, predicted = await d.predict(us, 20)
        truth = predicted + np.linspace(-3, 3, 20)
        shadow = predicted + 1.0
        if hour != 2:
            await d.shadow(ids, shadow, us, failed=[0] if hour == 3 else [])
        await d.progress(us + HOUR_US)
        await d.record(ids, truth, us + HOUR_US - 1, watermark_us=us + HOUR_US)
        await d.settle(us + HOUR_US)
        if hour == 2:  # the outcomes were joined before the shadow answers came
            await d.shadow(ids, shadow, us)
            await d.shadow(ids, shadow, us)
        used = slice(1, None) if hour == 3 else slice(None)
        losses[hour] = (np.abs(truth - predicted)[used].sum(), np.abs(truth - shadow)[used].sum(), 20 - (hour == 3))
    await d.progress(T0 + 6 * HOUR_US)
    await d.record([], [], 0, watermark_us=T0 + 6 * HOUR_US)
    await d.settle(T0 + 6 * HOUR_US)
    found = [
        e.message for e in await world.events(MONITORING, 5, deployment=d.name) if isinstance(e.message, pb.VariantsCompared)
    ]
    assert [wire.us_from(m.as_of) for m in found] == [T0 + h * HOUR_US for h in (2, 3, 4, 5, 6)]
    last = found[-1]
    assert [wire.us_from(b.start) for b in last.blocks] == [T0 + h * HOUR_US for h in (1, 2, 3)]
    for block, hour in zip(last.blocks, (1, 2, 3), strict=True):
        champion, challenger, count = losses[hour]
        assert block.count == count
        assert block.champion_loss == pytest.approx(champion, abs=1e-4)
        assert block.challenger_loss == pytest.approx(challenger, abs=1e-4)
    assert (last.shadow_rows, last.shadow_failures) == (60, 1)
    assert 0 < last.day_spread <= 0.05
    assert (await d.ledger())["1.0.1", "shadow"].shadow == 60


async def test_a_rollout_that_becomes_known_late_is_compared_for_the_hours_that_passed(world: World) -> None:
    """Serving's state may come after the watermark: the hours since the rollout began are published then."""
    d = await world.deployed()
    for hour in range(4):
        await d.hour(T0 + hour * HOUR_US, settle=True)
    await d.changed(rollout=d.rollout(T0 + HOUR_US + 1))
    found: list[Any] = [e.message for e in await world.events(MONITORING, 3, deployment=d.name)]
    assert [wire.us_from(m.as_of) for m in found] == [T0 + h * HOUR_US for h in (2, 3, 4)]


async def test_a_promotion_resets_the_chart_and_frees_the_policy(world: World) -> None:
    """While a decision is under way another wish is refused; after the promotion the policy is free and the chart at rest."""
    d = await world.deployed()
    await d.hour(T0, settle=True)
    decision = (await world.call("RequestRetraining", api.RequestRetrainingRequest(deployment=d.name, reason="try"))).decision
    assert (decision.trigger, decision.state) == ("manual", "pending")
    await d.changed(rollout=d.rollout(T0 + HOUR_US, decision=decision.decision_id))
    await d.job(decision.decision_id, "succeeded", "1.0.1")

    async def state() -> str:
        answer = await world.call("ListDecisions", api.ListDecisionsRequest(deployment=d.name, requested_only=True))
        return str(answer.decisions[0].state)

    await world.until(lambda: _equal(state, "succeeded"))
    d.message.spec.rollout.auto = True
    promoted = d.rollout(T0 + HOUR_US, serving_pb2.ROLLOUT_STATE_PROMOTED, decision.decision_id)
    await d.rollout_ended(pb.Promoted(rollout=promoted))
    d.message.ClearField("rollout")
    d.message.variants[0].version = "1.0.1"
    await d.changed()

    async def free() -> bool:
        row = await world.database.fetchrow("select facts, policy from deployments where name = $1", d.name)
        assert row is not None
        return bool(row["facts"]["champion"] == "1.0.1" and not row["policy"]["open"])

    await world.until(free)
    again = await world.call("RequestRetraining", api.RequestRetrainingRequest(deployment=d.name, reason="again"))
    assert again.decision.requested


async def _equal(read: Callable[[], Awaitable[str]], wanted: str) -> bool:
    return await read() == wanted
