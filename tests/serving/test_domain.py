"""What deployments and rollouts may do; pure."""

from dataclasses import asdict, replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perennial.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from perennial.stats.sequential import PairedBlock
from perennial.v1 import serving_pb2 as pb

from services.serving import events, wire
from services.serving.domain import deployment as rules
from services.serving.domain import plain
from services.serving.domain.deployment import Change, Comparison, Deployment
from services.serving.domain.guardrail import Guardrail
from services.serving.domain.rollout import Build, Rollout, RolloutState
from services.serving.domain.routing import challenged, salt
from services.serving.domain.spec import DAY_US, HOUR_US, RolloutPolicy, Spec
from tests.serving.models import signature

SIGNATURE = signature().to_json()


def build(version: str) -> Build:
    return Build(version, "a" * 64, f"models/{version}", SIGNATURE)


def deployment(**policy: object) -> Deployment:
    message = pb.DeploymentSpec(name="prices", model="prices", rollout=pb.RolloutPolicy(auto=True))
    spec = wire.spec_from(message)
    return Deployment(replace(spec, rollout=replace(spec.rollout, **policy)), build("1.0.0"), 0)  # type: ignore[arg-type]


def rollout(version: str = "1.0.1", **changes: object) -> Rollout:
    made = Rollout(f"r-{version}", "prices", "prices", "1.0.0", build(version), RolloutState.PENDING, 0, 0)
    return replace(made, **changes)  # type: ignore[arg-type]


def in_shadow() -> Deployment:
    return rules.registered(deployment(), rollout(), 0).deployment


def comparison(hours: int, ratio: float, **changes: object) -> Comparison:
    squares = 100 * (10 * (1 - ratio)) ** 2
    blocks = tuple(PairedBlock(h * HOUR_US, (h + 1) * HOUR_US, 100, 1000.0, 1000.0 * ratio, squares) for h in range(hours))
    return replace(Comparison("r-1.0.1", hours * HOUR_US, blocks, 0.05, hours * 100, 0), **changes)  # type: ignore[arg-type]


def state_of(change: Change) -> list[RolloutState]:
    return [r.state for r in change.moved]


@pytest.mark.parametrize("weight", [1, 100, 500, 999])
def test_shares_are_kept_and_keys_stay_where_they_are(weight: int) -> None:
    """SRV-05: weights in 0.1 %, sticky by key, and a greater weight only adds keys."""
    keys = [f"customer-{i}" for i in range(20_000)]
    turned = salt("prices", "1.0.1")
    chosen = challenged(turned, keys, weight)
    assert abs(chosen.mean() - weight / 1000) < 4 * np.sqrt(weight / 1000 * (1 - weight / 1000) / len(keys)) + 1e-9
    assert (challenged(turned, keys, weight) == chosen).all()
    assert (challenged(turned, keys, min(weight + 100, 1000))[chosen]).all()


def test_another_version_draws_anew() -> None:
    """Two rollouts do not put the same customers first."""
    keys = [f"customer-{i}" for i in range(20_000)]
    first, second = (challenged(salt("prices", version), keys, 500) for version in ("1.0.1", "1.0.2"))
    assert abs((first & second).mean() - 0.25) < 0.02


def test_a_rollout_goes_its_way_by_the_clock() -> None:
    """SRV-04: shadow, then 10, 50 and 100 % an hour each, then champion."""
    d = rules.judged(in_shadow(), comparison(24, 0.9), DAY_US).deployment
    assert [(v.name, v.weight) for v in d.variants] == [("champion", 900), ("challenger", 100)]
    assert d.rollout is not None
    assert d.rollout.gain == pytest.approx(0.1)
    now = DAY_US
    for weight in (500, 1000):
        assert rules.stepped(d, now + HOUR_US - 1).deployment == d
        now += HOUR_US
        d = rules.stepped(d, now).deployment
        assert d.rollout is not None
        assert d.rollout.weight == weight
    assert not rules.ready(d, now + HOUR_US - 1)
    assert rules.ready(d, now + HOUR_US)
    change = rules.promoted(d, "r-1.0.1", now + HOUR_US)
    assert state_of(change) == [RolloutState.PROMOTED]
    assert change.deployment.champion.version == "1.0.1"
    assert rules.promoted(change.deployment, "r-1.0.1", now).moved == (), "a second time changes nothing"


@pytest.mark.parametrize(("hours", "ratio", "state"), [
    (7, 1.5, RolloutState.DECLINED), (24, 1.04, RolloutState.LIVE), (24, 1.08, None), (72, 1.08, RolloutState.LIVE),
    (72, 1.12, RolloutState.DECLINED), (5, 0.2, None), (24, 1.0, RolloutState.LIVE),
])  # fmt: skip
def test_shadow_decides_by_non_inferiority(hours: int, ratio: float, state: RolloutState | None) -> None:
    """R07: harm declines early, half the margin is enough after a day, the whole margin after three."""
    change = rules.judged(in_shadow(), comparison(hours, ratio), hours * HOUR_US)
    assert state_of(change) == ([state] if state else [])


def test_shadow_answers_that_fail_decline() -> None:
    """Failing copies are a reason of their own."""
    change = rules.judged(in_shadow(), comparison(24, 0.5, shadow_failures=300), DAY_US)
    assert state_of(change) == [RolloutState.DECLINED]


def test_a_person_decides_about_what_waits_for_approval() -> None:
    """A version whose model asks for approval stays pending until somebody decides."""
    waiting = rules.registered(deployment(), rollout(approved=False), 0)
    assert state_of(waiting) == [RolloutState.PENDING]
    assert state_of(rules.approved(waiting.deployment, "1.0.1", 1, yes=True)) == [RolloutState.SHADOW]
    assert state_of(rules.approved(waiting.deployment, "1.0.1", 1, yes=False)) == [RolloutState.DECLINED]
    assert rules.approved(waiting.deployment, "9.9.9", 1, yes=True).moved == ()


def test_what_ends_lets_the_next_one_begin() -> None:
    """A version that waited goes into shadow when the one before it is over, whatever ended it."""
    waiting = rules.registered(in_shadow(), rollout("1.0.2"), 5).deployment
    for change in (
        rules.cut(waiting, "r-1.0.1", 9, "it failed"),
        rules.aborted(waiting, "r-1.0.1", 9, "by hand"),
        rules.judged(waiting, comparison(7, 1.5), 9),
        rules.converged(waiting, build("7.0.0"), 9),
    ):
        assert change.deployment.rollout is not None
        assert change.deployment.rollout.challenger == "1.0.2"
        assert change.moved[-1].state is RolloutState.SHADOW
        assert change.moved[-1].champion == change.deployment.champion.version


def test_a_cut_while_live_is_a_roll_back() -> None:
    """F06: in shadow a cut declines, live it rolls back."""
    live = rules.judged(in_shadow(), comparison(24, 0.9), DAY_US).deployment
    assert state_of(rules.cut(live, "r-1.0.1", DAY_US, "nan")) == [RolloutState.ROLLED_BACK]
    assert rules.cut(live, "another", DAY_US, "nan").moved == ()


def test_the_wrong_moves_are_refused() -> None:
    """The champion cannot be rolled out, a rollout that is over cannot end again, steps must rise to all traffic."""
    with pytest.raises(AlreadyExists):
        rules.registered(deployment(), rollout("1.0.0"), 0)
    with pytest.raises(FailedPrecondition):
        rules.aborted(deployment(), "r-1.0.1", 0, "by hand")
    with pytest.raises(FailedPrecondition):
        rollout().ended(RolloutState.ABORTED, 0, "x").ended(RolloutState.PROMOTED, 0, "y")
    with pytest.raises(InvalidArgument):
        RolloutPolicy(steps=(100, 500))
    with pytest.raises(InvalidArgument):
        Spec("Prices!", "prices")


@given(st.lists(st.sampled_from(["register", "judge", "step", "promote", "cut", "abort", "alias", "retire"]), max_size=25))
def test_whatever_happens_a_deployment_stays_whole(moves: list[str]) -> None:
    """Any order of events: one rollout at work, one waiting, weights that make 1000, and rollouts that move forward only."""
    d = deployment()
    states: dict[str, RolloutState] = {}
    order = list(RolloutState)
    for number, move in enumerate(moves, 1):
        now = number * HOUR_US
        change = _moved(d, move, now, number)
        for moved in change.moved:
            before = states.get(moved.rollout_id, RolloutState.PENDING)
            assert not before.ended
            assert order.index(moved.state) >= order.index(before)
            states[moved.rollout_id] = moved.state
        d = change.deployment
        assert sum(v.weight for v in d.variants) == 1000
        assert sum(s.at_work for s in states.values()) == (d.rollout is not None)
        assert sum(s is RolloutState.PENDING for s in states.values()) == (d.pending is not None)
        assert plain.deployment(orjson.loads(orjson.dumps(asdict(d)))) == d, "plain data and back"


def _moved(d: Deployment, move: str, now: int, number: int) -> Change:
    at_work = d.rollout.rollout_id if d.rollout else "none"
    try:
        return {
            "register": lambda: rules.registered(d, rollout(f"1.0.{number}"), now),
            "judge": lambda: rules.judged(d, comparison(24, 0.9, rollout_id=at_work), now),
            "step": lambda: rules.stepped(d, now),
            "promote": lambda: rules.promoted(d, at_work, now),
            "cut": lambda: rules.cut(d, at_work, now, "it failed"),
            "abort": lambda: rules.aborted(d, at_work, now, "by hand"),
            "alias": lambda: rules.converged(d, build(f"2.0.{number}"), now),
            "retire": lambda: rules.retired(d, now),
        }[move]()
    except FailedPrecondition:
        return Change(d)


def test_a_failing_share_within_a_second_takes_a_challenger_out() -> None:
    """F06: one failure in many calls is borne, a share above the limit is not, and old calls are forgotten."""
    guard = Guardrail(0.05, 5.0)
    for i in range(99):
        assert guard.answered(i / 1000, 1e-6) is None
    assert guard.failed(0.1, "nan") is None
    assert guard.failed(5.0, "nan") == "1 of 1 calls within a second failed: nan"


def test_a_slow_challenger_is_taken_out_by_its_median() -> None:
    """F06: five times the champion's median latency is the limit; noise below 50 us is none."""
    guard = Guardrail(0.05, 5.0)
    for _ in range(30):
        guard.champion_answered(1e-4)
    found = [guard.answered(i / 10, 1e-3) for i in range(30)]
    assert found[:19] == [None] * 19
    assert found[19] is not None
    quick = Guardrail(0.05, 5.0)
    for _ in range(30):
        quick.champion_answered(1e-6)
    assert not any(quick.answered(i / 10, 4e-5) for i in range(30))


def test_the_chain_of_facts_goes_on_from_the_newest() -> None:
    """Every fact's cause is the one before it; ids follow from what happened, so a repeat has the same."""
    change = rules.registered(deployment(), rollout(correlation_id="first", causation_id="registered"), 5)
    after, found = events.of(change.deployment, change.moved)
    assert [e.message.DESCRIPTOR.name for e in found] == ["RolloutStepped", "DeploymentStateChanged"]
    assert (found[0].correlation_id, found[0].causation_id) == ("first", "registered")
    assert found[1].causation_id == found[0].id
    assert after.rollout is not None
    assert after.rollout.causation_id == found[0].id
    assert events.of(change.deployment, change.moved)[1][0].id == found[0].id


def test_defaults_of_a_spec_are_those_of_the_contract() -> None:
    """What is not said is filled in, and comes back the same from the wire."""
    spec = wire.spec_from(pb.DeploymentSpec(name="prices", model="prices"))
    assert spec.monitoring["min_rows"] == "500"
    assert (spec.max_rows, spec.rollout.steps, spec.label_horizon_us) == (10_000, (100, 500, 1000), 7 * DAY_US)
    assert wire.spec_from(wire.spec_to(spec)) == spec
