"""Does the chart alarm when it should, and hardly otherwise? (# MON-06 MON-15)"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.stats.cusum import Chart, ChartPolicy, scale_of
from scipy import stats

KNOWN = ChartPolicy(least=10**6, history=300)
"""Judges by the reference's scale alone, so that run lengths can be held against tables."""


def run_length(shift: float, random: np.random.Generator, reference: np.ndarray) -> int:
    chart, blocks, alarm = Chart.start(reference.tolist(), KNOWN), 0, None
    while alarm is None and blocks < 1500:
        chart, alarm = chart.updated(float(random.normal(shift)))
        blocks += 1
    return blocks


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 330, 640), (1.0, 9.0, 12.0), (2.0, 3.6, 4.5)])
def test_run_lengths_are_those_of_the_tables(shift: float, low: float, high: float) -> None:
    """K = 0.5, h = 5: average run lengths 465, 10.4 and 4.01 for shifts of 0, 1 and 2 sigma (Montgomery 2009, table 9.4)."""
    random = np.random.default_rng(11)
    z = stats.norm.ppf((np.arange(299) + 0.5) / 299)
    reference = random.permutation(z)
    scale = scale_of(reference.tolist())
    lengths = [run_length(shift * scale, _Scaled(random, scale), reference) for _ in range(60 if shift == 0 else 200)]  # type: ignore[arg-type]
    assert low < float(np.mean(lengths)) < high


class _Scaled:
    """Normal numbers in units of the chart's own estimate of scale."""

    def __init__(self, random: np.random.Generator, scale: float) -> None:
        self.random, self.scale = random, scale

    def normal(self, mean: float) -> float:
        return float(self.random.normal(mean, self.scale))


def test_an_alarm_says_when_the_change_began() -> None:
    """After a step of four sigma the estimate of the change point is within a block or two."""
    random = np.random.default_rng(2)
    chart = Chart.start(random.normal(size=28).tolist())
    for _ in range(20):
        chart, alarm = chart.updated(float(random.normal(0, 0.3)))
        assert alarm is None
    since = 0
    alarm = None
    while alarm is None:
        chart, alarm = chart.updated(float(-4 + random.normal()))
        since += 1
    assert alarm.direction == "down"
    assert abs(alarm.since_blocks - since) <= 2


def test_the_reference_gives_the_scale_until_there_are_eight_blocks() -> None:
    """Before, sigma is the reference's; from the eighth live block on it is the live blocks' own."""
    chart = Chart.start((np.random.default_rng(0).normal(size=29) * 10).tolist())
    first = chart.sigma
    for place in range(8):
        assert chart.sigma == pytest.approx(first, rel=0.6)
        chart, _ = chart.updated(0.01 * (-1) ** place)
    assert chart.sigma < first / 50


@given(means=st.lists(st.floats(-1e9, 1e9), max_size=40), reference=st.lists(st.floats(-100, 100), max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_history_keeps_the_chart_finite_and_storable(means: list[float], reference: list[float]) -> None:
    """No history of finite means makes NaN or infinity, and plain values carry the state whole."""
    chart = Chart.start(reference)
    for mean in means:
        chart, _ = chart.updated(mean)
        assert math.isfinite(chart.value)
    assert Chart.from_json(chart.to_json()) == chart


@given(means=st.lists(st.floats(-1e3, 1e3), max_size=40), reference=st.lists(st.floats(-100, 100), min_size=3, max_size=40))
@settings(max_examples=80, deadline=None)
def test_the_chart_is_symmetric(means: list[float], reference: list[float]) -> None:
    """Mirrored means mirror the sums."""
    up, down = Chart.start(reference), Chart.start([-m for m in reference])
    for mean in means:
        (up, _), (down, _) = up.updated(mean), down.updated(-mean)
    assert (up.upper, up.lower) == pytest.approx((down.lower, down.upper))


def test_without_any_scale_blocks_are_only_remembered() -> None:
    """A chart that knows nothing alarms at nothing until it has a scale."""
    chart = Chart.start()
    for mean in (1000.0, 2000.0):
        chart, alarm = chart.updated(mean)
        assert alarm is None
    assert chart.means == (1000.0, 2000.0)


def test_a_reset_forgets_the_sums_and_keeps_the_scale() -> None:
    """After a promotion the chart is at rest, judged by the same live blocks."""
    chart = Chart.start([1.0, -1.0, 1.0, -1.0])
    for _ in range(20):
        chart, alarm = chart.updated(30.0)
    assert alarm is not None
    rested = chart.reset()
    assert (rested.value, rested.means, rested.alarm) == (0.0, chart.means, None)


def test_nan_is_refused() -> None:
    """A block without a mean has nothing to say."""
    with pytest.raises(InvalidArgument):
        Chart.start().updated(float("nan"))


def test_the_scale_withstands_a_slow_trend_and_outliers() -> None:
    """A trend of a tenth of sigma a block and one wild block in ten leave the estimate within a third of the truth."""
    random = np.random.default_rng(5)
    found = []
    for _ in range(200):
        means = random.normal(size=29) + 0.1 * np.arange(29)
        means[:: 10] += 30
        found.append(scale_of(means.tolist()))
    assert 0.67 < float(np.median(found)) < 1.5
