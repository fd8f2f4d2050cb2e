"""Has a window drifted from the reference, in which columns, and does it matter? Reports, and the 2-of-3 rule over them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perennial.errors import InvalidArgument
from perennial.stats.calibration import measured, p_value_of, threshold_of
from perennial.stats.columns import Column, Counts, NumberColumn
from perennial.stats.correction import discoveries
from perennial.stats.drift import TESTS, DriftTest
from perennial.stats.fold import Fold
from perennial.stats.reference import Profile

WINDOWS_A_MONTH = 30
Severity = Literal["none", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """How a window is judged.

    Without ``threshold`` the reference's calibration decides: past the threshold for ``false_alarms`` a month, with Benjamini
    and Hochberg's rule at ``q`` over the columns and an effect of at least ``least_effect``. With one (the settings
    ``DRIFT_DETECTION_METHOD`` and ``DRIFT_THRESHOLD``) a score above it counts, or for ks a p-value below it.
    """

    method: str = "ks"
    threshold: float | None = None
    min_rows: int = 100
    q: float = 0.01
    least_effect: float = 0.1
    false_alarms: float = 1.0


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One column of a window against the reference; ``effect`` is KS D for numbers, total variation for texts (0..1)."""

    column: str
    test: str
    statistic: float
    p_value: float
    threshold: float
    effect: float
    importance: float
    drifted: bool


@dataclass(frozen=True, slots=True)
class WindowReport:
    """All columns, most important first among the drifted; ``score`` is the drifted share of importance, 0..1."""

    columns: tuple[ColumnComparison, ...]
    rows: int
    score: float
    severity: Severity
    recommendations: tuple[str, ...]

    @property
    def drifted(self) -> tuple[ColumnComparison, ...]:
        """The columns that drifted."""
        return tuple(column for column in self.columns if column.drifted)


def compare(profile: Profile, window: Fold, *, settings: DriftSettings | None = None) -> WindowReport:
    """The report of a window. A window of fewer than ``min_rows`` rows is measured and nothing in it counts as drifted.

    InvalidArgument when the method is unknown or the window was folded over another profile. The test's own p-value (or the
    calibrated one, where there is no threshold setting) is NaN where it has none.
    """
    chosen = settings or DriftSettings()
    if chosen.method not in TESTS:
        raise InvalidArgument(f"no drift test {chosen.method!r}; there are {', '.join(TESTS)}")
    if window.profile != profile.checksum:
        raise InvalidArgument("the window was folded over another profile")
    found = [_column(profile, place, column, window, chosen) for place, column in enumerate(profile.columns)]
    enough = window.rows >= chosen.min_rows
    drifted = _decided(found, chosen) if enough else [False] * len(found)
    columns = tuple(
        ColumnComparison(f.column, f.test, f.statistic, f.p_value, f.threshold, f.effect, f.importance, d)
        for f, d in zip(found, drifted, strict=True)
    )
    ordered = tuple(sorted(columns, key=lambda c: (not c.drifted, -c.importance, -c.effect, c.column)))
    inputs = {column.name for column in profile.inputs.columns}
    score = min(1.0, sum(c.importance for c in ordered if c.drifted and c.column in inputs))
    severity = _severity(score, any(c.drifted for c in ordered))
    return WindowReport(ordered, window.rows, score, severity, tuple(_advice(ordered, window.rows, chosen, enough=enough)))


def _column(profile: Profile, place: int, column: Column, window: Fold, settings: DriftSettings) -> ColumnComparison:
    counts = profile.counts_of(place, window.counts)
    test = _applicable(TESTS[settings.method], column)
    found = measured(test, column, column.counts, counts)
    assert found is not None
    rows = int(counts.sum())
    if settings.threshold is None:
        tail = settings.false_alarms / WINDOWS_A_MONTH / max(len(profile.columns), 1)
        threshold = threshold_of(profile, place, test, rows, min(tail, 1.0))
        p_value = p_value_of(profile, place, test, rows, found.statistic)
    else:
        threshold, p_value = settings.threshold, math.nan if found.p_value is None else found.p_value
    weight = profile.weight(column.name)
    return ColumnComparison(
        column.name, test.name, found.statistic, p_value, threshold, effect_of(column, counts), weight, drifted=False
    )


def _applicable(test: DriftTest, column: Column) -> DriftTest:
    """Texts have no order: chi-square stands in for KS, Jensen and Shannon's distance for Wasserstein's."""
    if isinstance(column, NumberColumn) or not test.ordered:
        return test
    return TESTS["chi_square"] if test.name == "ks" else TESTS["js"]


def effect_of(column: Column, counts: Counts) -> float:
    """KS D of a number column, total variation of a text column, between the reference and a window; 0 for an empty one."""
    if isinstance(column, NumberColumn):
        first, second = column.distribution(column.counts), column.distribution(counts)
    else:
        first, second = column.grouped(column.counts), column.grouped(counts)
    if not second.any():
        return 0.0
    if not first.any():
        return 1.0
    gaps = second / second.sum() - first / first.sum()
    return float(np.abs(np.cumsum(gaps)).max()) if isinstance(column, NumberColumn) else float(np.abs(gaps).sum() / 2)


def _decided(found: Sequence[ColumnComparison], settings: DriftSettings) -> list[bool]:
    if settings.threshold is not None:
        return [
            c.p_value < c.threshold if c.test in ("ks", "chi_square") and settings.method == "ks" else c.statistic > c.threshold
            for c in found
        ]
    kept = discoveries([c.p_value for c in found], settings.q).tolist()
    return [
        bool(k) and c.statistic > c.threshold and c.effect >= settings.least_effect for c, k in zip(found, kept, strict=True)
    ]


def _severity(score: float, any_drifted: bool) -> Severity:
    if not any_drifted:
        return "none"
    return "low" if score < 0.2 else "medium" if score < 0.5 else "high"


def _advice(columns: Sequence[ColumnComparison], rows: int, settings: DriftSettings, *, enough: bool) -> list[str]:
    if not enough:
        return [f"{rows} rows are too few to judge; {settings.min_rows} are asked for"]
    gone = [c for c in columns if c.drifted]
    if not gone:
        return []
    named = ", ".join(f"{c.column} ({c.test} {c.statistic:.3g} > {c.threshold:.3g})" for c in gone[:5])
    advice = [f"look first at {named}"]
    if any(c.effect > 0.9 for c in gone):
        advice.append("a column hardly overlaps its reference: check its unit and its source before retraining")
    return advice


def persistent(reports: Sequence[WindowReport]) -> tuple[str, ...]:
    """Columns of importance (at least half an even share) that drifted in 2 of the last 3 windows, most important first: the
    early sign on which a retraining may be asked for without outcomes.
    """
    latest = reports[-3:]
    times = Counter(c.column for report in latest for c in report.drifted)
    if not latest:
        return ()
    floor = 0.5 / max(len(latest[-1].columns), 1)
    return tuple(c.column for c in latest[-1].columns if times[c.column] >= 2 and c.importance >= floor)
