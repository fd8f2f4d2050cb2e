"""R06, FS-10: features as of a time equal the brute force on every generated history, however the facts came."""

import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.feature.domain.evaluate import evaluate, incomplete
from services.feature.domain.layout import Layout
from services.feature.domain.packing import packed, unpacked, version_of
from services.feature.domain.states import ALWAYS, States, states_of, trimmed, with_facts
from services.feature.domain.views import FeatureView
from tests.feature.histories import KEYS, facts_from, histories, moments, views
from tests.feature.oracle import HOUR, Fact, worth

asked = st.lists(st.tuples(st.sampled_from([0, 1, -1]), moments, st.sampled_from([0, 1, -1])), min_size=1, max_size=12)


def expected(view: FeatureView, history: list[Fact], entity: int, t: int, known_by: int | None = None) -> list[object]:
    key = KEYS[entity] if entity >= 0 else None
    return [
        worth(f.aggregation.value, history, key, t, column=f.column, divisor=f.divisor, known_by=known_by,
              window=f.window_us or (view.ttl_us if f.aggregation.value == "last" else 0))
        for f in view.features
    ]  # fmt: skip


def same(ours: object, theirs: object) -> bool:
    if isinstance(ours, float):
        return math.isnan(ours) if theirs is None else ours == theirs and math.copysign(1, ours) == math.copysign(1, theirs)
    return ours == theirs


def compare(view: FeatureView, history: list[Fact], states: States, rows: list[tuple[int, int]]) -> None:
    entity = np.array([e for e, _ in rows], dtype=np.int64)
    times = np.array([t for _, t in rows], dtype=np.int64)
    columns = [column.tolist() for column in evaluate(view, view.features, states, entity, times)]
    old = incomplete(states, entity, times)
    for place, (e, t) in enumerate(rows):
        if old[place]:
            continue
        for feature, column, truth in zip(view.features, columns, expected(view, history, e, t), strict=True):
            assert same(column[place], truth), (feature, column[place], truth)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(views(), histories(), asked)
def test_a_history_read_whole_gives_what_the_brute_force_gives(
    view: FeatureView, history: list[Fact], rows: list[tuple[int, int, int]]
) -> None:
    """R06: late data, corrections, ties, nulls and texts included, to the last bit."""
    states = states_of(Layout.of(view), facts_from(history))
    compare(view, history, states, [(e, t + shift) for e, t, shift in rows])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(views(), histories(), asked, st.lists(st.integers(1, 6), max_size=30), st.sampled_from([0, HOUR, 5 * HOUR, 1000 * HOUR]))
def test_a_history_written_in_parts_and_trimmed_gives_the_same(
    view: FeatureView, history: list[Fact], rows: list[tuple[int, int, int]], cuts: list[int], slack: int
) -> None:
    """R06: parts of any size, packed and unpacked in between, dropping what is old: every answer still given is exact."""
    layout = Layout.of(view)
    states = states_of(layout, facts_from([]))
    start, version = 0, 0
    for size in [*cuts, len(history)]:
        part, start, version = history[start : start + size], start + size, version + 1
        states = trimmed(with_facts(states, facts_from(part)), slack)
        stored = packed(states, [version, version + 7])
        assert [version_of(value) for value in stored] == [version, version + 7]
        states = unpacked(layout, stored)
    compare(view, history, states, [(e, t + shift) for e, t, shift in rows])


@settings(max_examples=100, deadline=None)
@given(views(), histories())
def test_a_row_is_never_too_old_within_the_slack(view: FeatureView, history: list[Fact]) -> None:
    """Rows from the newest fact less the slack on are answered from the online store alone."""
    states = trimmed(states_of(Layout.of(view), facts_from(history)), HOUR)
    for entity, newest in enumerate(states.newest.tolist()):
        if newest == ALWAYS:
            continue
        times = np.array([newest - HOUR, newest, newest + HOUR])
        assert not incomplete(states, np.full(3, entity), times).any()
