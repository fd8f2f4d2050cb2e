"""Are windows judged by what the reference's own days do? (# MON-07 MON-10 MON-11 MON-27 R03)"""

import math

import numpy as np
import pytest
from perennial.errors import InvalidArgument
from perennial.frames import Table
from perennial.stats.drift import TESTS
from perennial.stats.fold import Folder
from perennial.stats.profile import build_profile
from perennial.stats.report import DriftSettings, WindowReport, compare, persistent
from scipy import stats

from tests.stats import made


def replay(
    seed: int, *, days: int = 30, columns: int = 20, per_day: int = 200, spread: float = 0.3, method: str = "ks"
) -> list[WindowReport]:
    """A month's reference, then daily windows of the same stationary, day-clustered stream."""
    table, stamps = made.clustered(30 + days, columns, seed, per_day=per_day, spread=spread)
    before = 30 * per_day
    profile = build_profile(table.slice(0, before), times_us=stamps[:before])
    folder = Folder(profile)
    windows = [table.slice(a, a + per_day) for a in range(before, table.rows, per_day)]
    return [compare(profile, folder.fold(window), settings=DriftSettings(method=method)) for window in windows]


def requests(reports: list[WindowReport]) -> int:
    """How many of the windows would ask for a retraining."""
    return sum(bool(persistent(reports[max(0, i - 2) : i + 1])) for i in range(len(reports)))


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_stationary_stream_asks_for_nothing(spread: float) -> None:
    """Clustered days or not, no window of some months asks for a retraining (R03; all 200 seeds in bench/r03_quiet.py)."""
    found = [replay(seed, spread=spread, columns=12) for seed in range(3)]
    assert sum(requests(reports) for reports in found) == 0
    assert sum(len(report.drifted) for reports in found for report in reports) <= 4


@pytest.mark.parametrize("method", TESTS)
def test_every_method_is_calibrated(method: str) -> None:
    """Whatever the statistic, a quiet month raises next to nothing and a real shift is seen."""
    quiet = replay(5, columns=4, days=12, method=method)
    assert sum(len(report.drifted) for report in quiet) <= 1
    table, stamps = made.clustered(30, 4, 6)
    profile = build_profile(table, times_us=stamps)
    moved = Table(400, table.number_names, np.random.default_rng(1).normal(size=(400, 4)) + np.array([3.0, 0, 0, 0]))
    report = compare(profile, Folder(profile).fold(moved), settings=DriftSettings(method=method))
    assert [c.column for c in report.drifted] == ["c0"]
    assert report.severity != "none"


def test_effects_and_ks_over_bins_are_near_those_of_the_rows() -> None:
    """D over the bins is below D of the rows by no more than the heaviest bin's share. (R05)"""
    random = np.random.default_rng(3)
    reference, window = random.gamma(2, 3, 6000), random.gamma(2.4, 3, 900)
    profile = build_profile(Table.of({"x": reference}), times_us=made.times(6000))
    found = compare(profile, Folder(profile).fold(Table.of({"x": window}))).columns[0]
    exact = stats.ks_2samp(reference, window).statistic
    assert exact - 1.5 / 128 <= found.statistic <= exact + 1e-12
    assert found.effect == pytest.approx(found.statistic, abs=1e-12)


def test_the_source_documents_settings_mean_what_they_say() -> None:
    """A threshold is a score for psi and a p-value for ks; both fire on a shift and on nothing else here."""
    table, stamps = made.clustered(30, 2, 7, spread=0.0)
    profile = build_profile(table, times_us=stamps)
    folder = Folder(profile)
    same = table.slice(0, 2000)
    moved = Table(2000, table.number_names, table.numbers[:2000] + np.array([1.0, 0.0]))
    for settings in (DriftSettings(method="psi", threshold=0.2), DriftSettings(method="ks", threshold=0.001)):
        assert compare(profile, folder.fold(same), settings=settings).severity == "none"
        assert [c.column for c in compare(profile, folder.fold(moved), settings=settings).drifted] == ["c0"]


def test_too_few_rows_are_measured_and_not_judged() -> None:
    """Below ``min_rows`` nothing counts as drifted, and the report says why."""
    table, stamps = made.clustered(10, 2, 8)
    profile = build_profile(table, times_us=stamps)
    report = compare(profile, Folder(profile).fold(Table(50, table.number_names, table.numbers[:50] + 9)))
    assert report.drifted == ()
    assert "too few" in report.recommendations[0]


def test_constant_empty_and_text_columns_get_an_answer_from_every_method() -> None:
    """No method answers NaN or fails on a column that never moves, is all null, or is a text."""
    profile = build_profile(made.mixed(), times_us=made.times(400))
    folder = Folder(profile)
    for method in TESTS:
        for window in (made.mixed(200, 3), Table.of({"constant": [9.0] * 200, "empty": [1.0] * 200, "carrier": ["new"] * 200})):
            report = compare(profile, folder.fold(window), settings=DriftSettings(method=method))
            for column in report.columns:
                assert math.isfinite(column.statistic), (method, column)
                assert 0 <= column.p_value <= 1, (method, column)
                assert 0 <= column.effect <= 1, (method, column)


def test_an_empty_window_is_measured_without_failing() -> None:
    """No rows: no drift, no NaN."""
    profile = build_profile(made.mixed(), times_us=made.times(400))
    report = compare(profile, Folder(profile).empty())
    assert report.severity == "none"
    assert all(math.isfinite(c.statistic) for c in report.columns)


def test_a_short_reference_never_calls_drift() -> None:
    """With one block nothing is known of days: thresholds are infinite."""
    table, _ = made.clustered(1, 2, 1)
    profile = build_profile(table, times_us=np.zeros(table.rows, np.int64))
    report = compare(profile, Folder(profile).fold(Table(400, table.number_names, table.numbers + 9)))
    assert report.drifted == ()
    assert all(c.threshold == math.inf for c in report.columns)


def test_two_of_three_windows_and_importance_are_asked_for() -> None:
    """One bad day, or a column without weight, asks for nothing."""
    table, stamps = made.clustered(30, 4, 9)
    profile = build_profile(table, times_us=stamps, importance={"c0": 5.0, "c1": 0.01, "c2": 1.0, "c3": 1.0})
    folder = Folder(profile)
    quiet = compare(profile, folder.fold(table.slice(0, 400)))
    loud = compare(profile, folder.fold(Table(400, table.number_names, table.numbers[:400] + np.array([4.0, 4.0, 0, 0]))))
    assert {c.column for c in loud.drifted} == {"c0", "c1"}
    assert persistent([quiet, quiet, loud]) == ()
    assert persistent([loud, quiet, loud]) == ("c0",)
    assert persistent([loud, loud, quiet, quiet]) == ()
    assert persistent([]) == ()


def test_unknown_methods_and_foreign_windows_are_refused() -> None:
    """The message names what there is."""
    profile = build_profile(made.mixed(), times_us=made.times(400))
    other = build_profile(made.mixed(seed=4), times_us=made.times(400))
    with pytest.raises(InvalidArgument, match="psi"):
        compare(profile, Folder(profile).empty(), settings=DriftSettings(method="magic"))
    with pytest.raises(InvalidArgument, match="another profile"):
        compare(profile, Folder(other).empty())
