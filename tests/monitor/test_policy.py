"""The policy as loop.md says it: what asks, what is against it, and the one follow-up."""

from services.monitor.domain.deployments import Policy
from services.monitor.domain.policy import State, Verdict, Wish, judged, wishes_of_time
from services.monitor.domain.time import DAY_US, block_of, blocks_between, least_watermark

POLICY = Policy(retrain=True, outcomes=True)
ALARM = Wish("performance", "the chart stands at 6 sigma", change_us=3 * DAY_US)


def _asked(state: State, day: float, *wishes: Wish, policy: Policy = POLICY, rollout: bool = False) -> Verdict:
    return judged(state, policy, int(day * DAY_US), list(wishes), rollout_open=rollout)


def test_without_a_wish_the_answer_is_no_with_its_figures() -> None:
    """Every block has a decision; the figures say how much of the budget is used."""
    verdict = _asked(State(requests_us=(0,)), 5)
    assert (verdict.requested, verdict.reason) == (False, "nothing asks for a retraining")
    assert verdict.figures["requests_30d"] == 1.0


def test_an_alarm_asks_and_a_second_waits_for_what_is_under_way() -> None:
    """One retraining at a time; the refusal is announced once."""
    first = _asked(State(), 10, ALARM)
    assert first.requested
    busy = State(requests_us=first.state.requests_us, open="d1")
    again = _asked(busy, 14, ALARM)
    assert (again.requested, again.reason, again.announce) == (False, "pending", True)
    assert not _asked(again.state, 15, ALARM).announce
    assert _asked(State(), 14, ALARM, rollout=True).reason == "rollout_open"


def test_cool_down_and_budget_hold_back_and_an_incident_passes_the_cool_down() -> None:
    """Two days between requests, four a month; an incident does not wait for the cool-down."""
    state = State(requests_us=(10 * DAY_US,))
    assert _asked(state, 11.5, ALARM).reason == "cool_down"
    assert _asked(state, 12, ALARM).requested
    assert _asked(state, 11.5, Wish("incident", "kilometres")).requested
    spent = State(requests_us=tuple(d * DAY_US for d in (1, 8, 15, 22)))
    assert _asked(spent, 29, ALARM).reason == "budget"
    assert _asked(spent, 31.5, ALARM).requested


def test_max_age_counts_from_the_request_or_the_beginning() -> None:
    """28 days after the last request, or after the deployment's first block."""
    assert not wishes_of_time(State(began_us=0), POLICY, 28 * DAY_US - 1)
    assert [w.trigger for w in wishes_of_time(State(began_us=0), POLICY, 28 * DAY_US)] == ["max_age"]
    assert not wishes_of_time(State(began_us=0, requests_us=(20 * DAY_US,)), POLICY, 47 * DAY_US)


def test_one_follow_up_comes_after_half_a_window_and_brings_no_other() -> None:
    """56 days of window: 28 days after the request, unless a newer retraining came first."""
    state = _asked(State(), 10, ALARM).state
    assert state.follow_up_us == 38 * DAY_US
    assert not [w for w in wishes_of_time(state, POLICY, 37 * DAY_US) if w.trigger == "follow_up"]
    found = wishes_of_time(state, POLICY, 38 * DAY_US)
    followed = _asked(state, 38, *found)
    assert followed.wish is not None
    assert (followed.requested, followed.wish.trigger, followed.wish.change_us) == (True, "follow_up", 3 * DAY_US)
    assert followed.state.follow_up_us is None
    replaced = _asked(state, 20, ALARM).state
    assert replaced.follow_up_us == 48 * DAY_US
    assert _asked(State(), 10, ALARM, policy=Policy(retrain=True, follow_up=False)).state.follow_up_us is None


def test_a_person_may_ask_although_retraining_is_off_but_not_while_one_is_under_way() -> None:
    """A manual wish passes budget and cool-down."""
    off = Policy(retrain=False)
    assert _asked(State(), 1, Wish("manual", "try"), policy=off).requested
    assert _asked(State(), 1, ALARM, policy=off).reason == "retraining is off"
    assert _asked(State(open="d1"), 1, Wish("manual", "try"), policy=off).reason == "pending"


def test_the_state_survives_its_storage() -> None:
    """What is stored as JSON comes back equal."""
    state = _asked(State(began_us=1), 10, Wish("incident", "km", 5, units=(("distance", 1.609, 5),))).state
    assert State.from_json(state.to_json()) == state


def test_watermarks_never_go_back_and_a_silent_stream_stands_where_the_deployment_stands() -> None:
    """The least over open streams; with none open it stays."""
    assert least_watermark([5, 9], 3) == 5
    assert least_watermark([1, 9], 3) == 3
    assert least_watermark([None, 9], 3) == 3
    assert least_watermark([], 3) == 3
    assert least_watermark([None], None) is None


def test_blocks_of_a_day_follow_the_local_midnight_through_a_change_of_clocks() -> None:
    """New York, 10 March 2013 has 23 hours; the days before it 24."""
    after = 15_772 * DAY_US  # 2013-03-08 00:00 UTC
    found = list(blocks_between(after, after + 4 * DAY_US, DAY_US, "America/New_York"))
    assert [(end - start) // 3_600_000_000 for start, end in found] == [24, 24, 24, 23]
    assert all(block_of(start, DAY_US, "America/New_York") == (start, end) for start, end in found)
