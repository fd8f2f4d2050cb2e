"""Are the tests of difference the textbooks' own? One battery over the table, then SciPy. (# MON-03 MON-04 MON-05)"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.stats.drift import TESTS, DriftTest
from perennial.stats.drift.base import kolmogorov_tail
from perennial.stats.drift.chi_square import ChiSquare
from perennial.stats.drift.kl import KullbackLeibler
from perennial.stats.drift.psi import PopulationStabilityIndex
from scipy import special, stats
from scipy.spatial.distance import jensenshannon

COUNTS = st.integers(2, 30).flatmap(
    lambda k: st.tuples(*[st.lists(st.integers(0, 1000), min_size=k, max_size=k).filter(any) for _ in range(2)])
)
SAMPLES = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=60)
every_test = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS.keys())


@every_test
@given(counts=COUNTS)
@settings(max_examples=60, deadline=None)
def test_an_answer_is_always_finite_and_not_negative(test: DriftTest, counts: tuple[list[int], list[int]]) -> None:
    """Thin, empty and lonely bins give a number, never NaN, and a p-value is a probability."""
    found = test.measure(*counts)
    assert math.isfinite(found.statistic)
    assert found.statistic >= -1e-12
    assert found.p_value is None or 0 <= found.p_value <= 1


@every_test
@given(counts=st.lists(st.integers(0, 500), min_size=1, max_size=20).filter(any))
@settings(max_examples=40, deadline=None)
def test_a_window_equal_to_its_reference_measures_zero(test: DriftTest, counts: list[int]) -> None:
    """No difference is 0, with p = 1 where there is a p-value."""
    found = test.measure(counts, counts)
    assert found.statistic == pytest.approx(0, abs=1e-7)
    assert found.p_value is None or found.p_value == pytest.approx(1)


@every_test
@given(counts=COUNTS)
@settings(max_examples=40, deadline=None)
def test_a_bin_that_is_empty_on_both_sides_changes_nothing(test: DriftTest, counts: tuple[list[int], list[int]]) -> None:
    """A category nobody uses is no evidence."""
    padded = [[*side, 0] for side in counts]
    assert test.measure(*padded).statistic == pytest.approx(test.measure(*counts).statistic, rel=1e-9, abs=1e-9)


@every_test
@pytest.mark.parametrize(
    ("reference", "window"),
    [([], []), ([0, 0], [1, 1]), ([1, 1], [0, 0]), ([1, -1], [1, 1]), ([1, 2], [1, 2, 3]), ([math.nan, 1], [1, 1])],
)
def test_what_cannot_be_compared_is_refused(test: DriftTest, reference: list[float], window: list[float]) -> None:
    """Empty, negative, NaN or differently binned counts are the caller's mistake."""
    with pytest.raises(InvalidArgument):
        test.measure(reference, window)


@every_test
@pytest.mark.parametrize("bad", [[], [math.nan], [math.inf, 1.0]])
def test_a_sample_without_numbers_is_refused(test: DriftTest, bad: list[float]) -> None:
    """Raw samples hold at least one finite number and nothing else."""
    with pytest.raises(InvalidArgument):
        test.measure_samples([1.0, 2.0], bad)


@every_test
def test_a_constant_sample_gets_an_answer(test: DriftTest) -> None:
    """A column that never moves is compared like any other: zero to itself, more to another."""
    assert test.measure_samples([3.0] * 50, [3.0] * 20).statistic == pytest.approx(0, abs=1e-9)
    assert test.measure_samples([3.0] * 50 + [4.0], [4.0] * 20).statistic > 0.1


@every_test
def test_a_larger_shift_measures_more(test: DriftTest) -> None:
    """The statistic orders shifts of a normal sample."""
    random = np.random.default_rng(3)
    reference = random.normal(size=4000)
    found = [test.measure_samples(reference, random.normal(shift, size=2000)).statistic for shift in (0.0, 0.3, 0.8, 1.5)]
    assert found == sorted(found)


@given(first=SAMPLES.filter(lambda s: len(s) > 1), second=SAMPLES.filter(lambda s: len(s) > 1))
@settings(max_examples=200, deadline=None)
def test_ks_of_samples_is_scipys(first: list[float], second: list[float]) -> None:
    """D agrees with scipy.stats.ks_2samp, ties included. (R05)"""
    expected = stats.ks_2samp(first, second, method="asymp").statistic
    assert TESTS["ks"].measure_samples(first, second).statistic == pytest.approx(expected, abs=1e-9)


@given(first=SAMPLES, second=SAMPLES)
@settings(max_examples=200, deadline=None)
def test_wasserstein_of_samples_is_scipys(first: list[float], second: list[float]) -> None:
    """W agrees with scipy.stats.wasserstein_distance. (R05)"""
    expected = stats.wasserstein_distance(first, second)
    assert TESTS["wasserstein"].measure_samples(first, second).statistic == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(counts=COUNTS)
@settings(max_examples=150, deadline=None)
def test_wasserstein_of_bins_is_scipys_with_weights(counts: tuple[list[int], list[int]]) -> None:
    """Bins are weights at their positions. (R05)"""
    places = np.arange(len(counts[0])) ** 1.5
    expected = stats.wasserstein_distance(places, places, *counts)
    assert TESTS["wasserstein"].measure(*counts, positions=places).statistic == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(counts=COUNTS)
@settings(max_examples=150, deadline=None)
def test_jensen_shannon_is_scipys(counts: tuple[list[int], list[int]]) -> None:
    """The distance agrees with scipy.spatial.distance.jensenshannon; near zero both are square roots of rounding. (R05)"""
    found = TESTS["js"].measure(*counts).statistic
    expected = float(np.nan_to_num(jensenshannon(*[np.array(c, float) for c in counts])))
    assert found**2 == pytest.approx(expected**2, abs=1e-12)


@given(counts=COUNTS, alpha=st.sampled_from([0.5, 1.0, 0.01]))
@settings(max_examples=150, deadline=None)
def test_kl_and_psi_are_scipys_entropies_of_smoothed_shares(counts: tuple[list[int], list[int]], alpha: float) -> None:
    """KL(q|p) is scipy.stats.entropy(q, p), PSI the sum of both directions. (R05)"""
    held = [(a, b) for a, b in zip(*counts, strict=True) if a or b]
    p, q = ([pair[side] + alpha for pair in held] for side in (0, 1))
    kl = KullbackLeibler(alpha=alpha).measure(*counts).statistic
    psi = PopulationStabilityIndex(alpha=alpha).measure(*counts).statistic
    assert kl == pytest.approx(float(stats.entropy(q, p)), rel=1e-9, abs=1e-9)
    assert psi == pytest.approx(float(stats.entropy(q, p) + stats.entropy(p, q)), rel=1e-9, abs=1e-9)


@given(counts=COUNTS)
@settings(max_examples=150, deadline=None)
def test_chi_square_is_scipys_contingency_test(counts: tuple[list[int], list[int]]) -> None:
    """Statistic and p agree with scipy.stats.chi2_contingency where no bin is merged. (R05)"""
    held = np.array([pair for pair in zip(*counts, strict=True) if any(pair)]).T
    found = ChiSquare(least_expected=0).measure(*counts)
    if held.shape[1] < 2:
        assert found.statistic == 0
        return
    expected = stats.chi2_contingency(held, correction=False)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-12)


def test_chi_square_merges_thin_bins() -> None:
    """Bins that expect fewer than five rows count as one: a textbook table with its tail pooled by hand."""
    found = ChiSquare().measure([50, 40, 2, 1, 3], [45, 48, 1, 2, 1])
    expected = stats.chi2_contingency([[50, 40, 6], [45, 48, 4]], correction=False)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-12)


@given(distance=st.floats(0, 1), rows=st.floats(1, 1e6))
@settings(max_examples=300, deadline=None)
def test_the_tail_of_kolmogorov_is_scipys(distance: float, rows: float) -> None:
    """Both series of the limiting distribution agree with scipy.special.kolmogorov."""
    assert kolmogorov_tail(distance, rows) == pytest.approx(special.kolmogorov(distance * math.sqrt(rows)), abs=1e-9)


def test_psi_of_a_worked_example() -> None:
    """Shares 10/90 against 20/80, unsmoothed: (.2-.1) ln 2 + (.8-.9) ln(8/9) = 0.081093 (closed form)."""
    found = PopulationStabilityIndex(alpha=0).measure([10, 90], [20, 80]).statistic
    assert found == pytest.approx(0.1 * math.log(2) - 0.1 * math.log(8 / 9), abs=1e-12)
