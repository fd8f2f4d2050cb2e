"""Does the rollout's decision keep its promises however often it looks? (# SRV-07 R07)"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.stats.sequential import DAY_US, PairedBlock, ShadowPolicy, day_spread_of, decide, estimate, mixture_limit

HOUR_US = 3_600_000_000


def hours(worse: float, count: int, *, rows: int = 40, start: int = 0) -> list[PairedBlock]:
    """Blocks in which the challenger is worse by exactly this share, with a little noise between rows."""
    gap = worse * rows * 6.0
    return [
        PairedBlock((start + h) * HOUR_US, (start + h + 1) * HOUR_US, rows, rows * 6.0, rows * 6.0 + gap, gap * gap / rows + 1.0)
        for h in range(count)
    ]


def trial(
    random: np.random.Generator, worse: float, day_effect: float, *, rows: int = 38, row_noise: float = 0.5
) -> tuple[str, int]:
    """One rollout in which every hour is a look: the decision and its hour."""
    blocks, today = [], 0.0
    for hour in range(80):
        if hour % 24 == 0:
            today = random.normal(0, day_effect) if day_effect else 0.0
        count = int(random.poisson(rows))
        gap = (worse + today) * 6 + random.normal(0, row_noise * 6, count)
        base = float(random.gamma(max(count, 1), 6)) if count else 0.0
        challenger = max(0.0, base + float(gap.sum()))
        blocks.append(PairedBlock(hour * HOUR_US, (hour + 1) * HOUR_US, count, base, challenger, float((gap * gap).sum())))
        found = decide(blocks, elapsed_us=(hour + 1) * HOUR_US)
        if found.action != "wait":
            return found.action, hour + 1
    return "wait", 80


@pytest.mark.parametrize("day_effect", [0.0, 0.05], ids=["independent", "day-clustered"])
def test_an_equal_challenger_is_hardly_ever_declined(day_effect: float) -> None:
    """A/A runs with a look an hour: declined in at most 5 % (R07; all 2,000 in bench/r07_rollout.py)."""
    random = np.random.default_rng(1)
    found = [trial(random, 0.0, day_effect)[0] for _ in range(300)]
    assert found.count("decline") / 300 <= 0.05
    assert "wait" not in found


@pytest.mark.parametrize("day_effect", [0.0, 0.05], ids=["independent", "day-clustered"])
def test_a_challenger_worse_by_a_fifth_is_hardly_ever_promoted(day_effect: float) -> None:
    """Promoted in at most 1 % (R07), and mostly stopped before the first day is over."""
    random = np.random.default_rng(2)
    found = [trial(random, 0.2, day_effect) for _ in range(300)]
    assert sum(action == "promote" for action, _ in found) / 300 <= 0.01
    assert sum(hour < 24 for _, hour in found) / 300 > 0.5


def test_early_limits_hold_at_all_looks_together() -> None:
    """A mean without any effect, looked at after each of 400 steps: past the upper limit ever in at most 5 %, and not never."""
    steps = np.random.default_rng(3).normal(0, 0.5, (3000, 400))
    looks = np.arange(1, 401)
    means = np.cumsum(steps, axis=1) / looks
    limits = np.array([mixture_limit(0.5 / math.sqrt(n), 0.05, typical=0.1) for n in looks])
    crossed = float((means > limits).any(axis=1).mean())
    assert 0.005 < crossed <= 0.05


def test_a_clearly_better_challenger_need_not_wait() -> None:
    """Better by a third, it is promoted at the sixth hour and not before."""
    assert decide(hours(-0.33, 5), elapsed_us=5 * HOUR_US).action == "wait"
    assert decide(hours(-0.33, 6), elapsed_us=6 * HOUR_US).action == "promote"


@pytest.mark.parametrize(
    ("worse", "elapsed_h", "action"),
    [
        (0.04, 23, "wait"),
        (0.04, 24, "promote"),
        (0.07, 24, "wait"),
        (0.07, 71, "wait"),
        (0.07, 72, "promote"),
        (0.12, 72, "decline"),
    ],
)
def test_the_estimate_decides_at_the_end(worse: float, elapsed_h: int, action: str) -> None:
    """Half the margin at ``max_shadow``, the margin at three times that, else no."""
    assert decide(hours(worse, elapsed_h), elapsed_us=elapsed_h * HOUR_US).action == action


@pytest.mark.parametrize(
    ("worse", "action"), [(0.0, "promote"), (0.04, "promote"), (-0.01, "promote"), (0.07, "wait"), (0.2, "decline")]
)
def test_zero_variance_decides_by_the_estimate(worse: float, action: str) -> None:
    """Answers that are all alike, or all off by the same, never divide by nothing."""
    rows = 10.0
    blocks = [PairedBlock(h * HOUR_US, (h + 1) * HOUR_US, 10, rows, rows * (1 + worse), rows * worse**2) for h in range(24)]
    found = decide(blocks, replace(ShadowPolicy(), day_spread=0.0), elapsed_us=DAY_US)
    assert found.action == action
    assert all(math.isfinite(figure) for figure in found.figures.values())


def test_two_perfect_models_are_equal() -> None:
    """A champion without loss can only be equalled."""
    perfect = [PairedBlock(h * HOUR_US, (h + 1) * HOUR_US, 5, 0.0, 0.0, 0.0) for h in range(24)]
    assert decide(perfect, elapsed_us=DAY_US).action == "promote"
    worse = [replace(block, challenger_loss=1.0, squared_difference=0.2) for block in perfect]
    assert decide(worse, elapsed_us=3 * DAY_US).action == "decline"


def test_thin_traffic_takes_the_longer_shadow() -> None:
    """Two dozen rows with wild differences do not tell a challenger from one a fifth worse: shadow goes on."""
    blocks = [PairedBlock(h * HOUR_US, (h + 1) * HOUR_US, 1, 6.0, 6.0, 9.0) for h in range(24)]
    found = decide(blocks, elapsed_us=DAY_US)
    assert found.action == "wait"
    assert "only" in found.reason


def test_without_rows_it_waits() -> None:
    """No outcomes, no judgement: that is for the label horizon to end."""
    assert decide([], elapsed_us=9 * DAY_US).action == "wait"
    assert decide([PairedBlock(0, 1, 0, 0.0, 0.0, 0.0)], elapsed_us=9 * DAY_US).action == "wait"


@given(seed=st.integers(0, 10_000), count=st.integers(1, 80), elapsed=st.integers(0, 90))
@settings(max_examples=80, deadline=None)
def test_the_order_of_blocks_does_not_matter(seed: int, count: int, elapsed: int) -> None:
    """Two readers of the same blocks take the same decision, and every figure is finite."""
    random = np.random.default_rng(seed)
    blocks = [
        PairedBlock(h * HOUR_US, (h + 1) * HOUR_US, int(random.integers(0, 9)), *random.gamma(1, 5, 3).tolist())
        for h in range(count)
    ]
    turned = [blocks[i] for i in random.permutation(count)]
    first = decide(blocks, elapsed_us=elapsed * HOUR_US)
    assert first == decide(turned, elapsed_us=elapsed * HOUR_US)
    assert all(math.isfinite(figure) for figure in first.figures.values())


@pytest.mark.parametrize("field", ["champion_loss", "challenger_loss", "squared_difference"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_figures_that_cannot_be_are_refused(field: str, bad: float) -> None:
    """NaN, infinity and negative sums mean that something upstream is broken."""
    with pytest.raises(InvalidArgument):
        changes: dict[str, Any] = {field: bad}
        decide([replace(hours(0.0, 1)[0], **changes)], elapsed_us=0)


def test_the_spread_between_days_is_found_again() -> None:
    """From sixty days of A/A blocks the day effect of 5 % is estimated to within a fifth."""
    random = np.random.default_rng(4)
    blocks = []
    for day in range(60):
        effect = random.normal(0, 0.05)
        gap = effect * 6 + random.normal(0, 3, 900)
        blocks.append(PairedBlock(day * DAY_US, (day + 1) * DAY_US, 900, 5400.0, 5400 + float(gap.sum()), float((gap**2).sum())))
    assert day_spread_of(blocks) == pytest.approx(0.05, rel=0.2)
    assert math.isnan(day_spread_of(blocks[:2]))


def test_the_variance_is_a_part_of_days_and_a_part_of_rows() -> None:
    """Two days of 100 rows at loss 1, differences of sd 1: sqrt((2 x (5 %  x 100)^2 + 200) / 200^2), by hand."""
    blocks = [PairedBlock(day * DAY_US, (day + 1) * DAY_US, 100, 100.0, 100.0, 100.0) for day in range(2)]
    _, spread = estimate(blocks, 0.05)
    assert spread == pytest.approx(math.sqrt(2 * 25 + 200 * 200 / 199) / 200, rel=1e-12)
