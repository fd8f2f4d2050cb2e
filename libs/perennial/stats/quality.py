"""Is the data itself broken? Units that changed, texts never seen, nulls, numbers far out of range: found within a pane.

Drift is gradual and passes; a broken column changes at once. So a pane is held against the reference, against the worst of the
reference's own panes, and against the panes just before it: a hot day, a bank of long flights or a slow season is none of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perennial.errors import InvalidArgument
from perennial.stats.columns import HEAD, MISSING, MISTYPED, Column, Counts, NumberColumn
from perennial.stats.fold import Fold
from perennial.stats.reference import Profile
from perennial.stats.units import Scaling, distance, scaling_of

Kind = Literal["unit_change", "schema_change", "missing", "range"]


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """``min_rows``: rows a column needs to be judged; ``recent_rows``: rows the recent panes need to be compared with;
    the other figures are shares of rows, or KS D.
    """

    min_rows: int = 40
    recent_rows: int = 200
    least_distance: float = 0.2
    novel: float = 0.3
    unseen: float = 0.2
    missing: float = 0.3
    far: float = 0.5
    most_after: float = 0.25
    """KS D that may be left once a pane is converted back: more, and the conversion explains too little to be one."""


@dataclass(frozen=True, slots=True)
class QualityChange:
    """One column that broke: ``factor`` against the reference (1 but for unit changes and ranges), the figures, and in words."""

    column: str
    kind: Kind
    factor: float
    figures: dict[str, float]
    detail: str


def quality_changes(
    profile: Profile, pane: Fold, recent: Fold | None = None, *, settings: QualitySettings | None = None
) -> tuple[QualityChange, ...]:
    """What is broken in a pane's inputs, at most one change a column, in the profile's order.

    ``recent`` are the panes before it (days, without those of an open incident): what they show already is drift and not news.
    Give a pane as it grows, and the last hours together: forty rows of a column suffice. InvalidArgument when the folds are over
    another profile.
    """
    if profile.checksum != pane.profile or (recent and recent.profile != pane.profile):
        raise InvalidArgument("the folds were made over another profile")
    rule = settings or QualitySettings()
    return tuple(_changes(profile, pane, recent, rule))


def _changes(profile: Profile, pane: Fold, recent: Fold | None, rule: QualitySettings) -> Iterator[QualityChange]:
    for place, column in enumerate(profile.inputs.columns):
        counts = profile.counts_of(place, pane.counts)
        before = profile.counts_of(place, recent.counts) if recent and recent.rows >= rule.recent_rows else None
        if int(counts.sum()) < rule.min_rows:
            continue
        found = _mistyped(column, counts, before, rule) or _missing(profile, place, counts, before, rule)
        if found is None and isinstance(column, NumberColumn):
            found = _unit(profile, place, column, counts, before, rule) or _range(column, counts, before, pane, profile, rule)
        elif found is None:
            found = _unseen(column, counts, before, pane, rule)
        if found is not None:
            yield found


def _share(counts: Counts | None, place: int) -> float:
    return float(counts[place] / max(int(counts.sum()), 1)) if counts is not None else 0.0


def _mistyped(column: Column, counts: Counts, before: Counts | None, rule: QualitySettings) -> QualityChange | None:
    share = _share(counts, MISTYPED)
    if share < rule.unseen or _share(before, MISTYPED) >= share / 2:
        return None
    detail = f"{column.name}: {share:.0%} of the rows lack the column or hold another type"
    return QualityChange(column.name, "schema_change", 1.0, {"mistyped": share}, detail)


def _missing(
    profile: Profile, place: int, counts: Counts, before: Counts | None, rule: QualitySettings
) -> QualityChange | None:
    column = profile.columns[place]
    share, usual = _share(counts, MISSING), _share(column.counts, MISSING)
    worst = float(profile.panes.figures[place, 2]) if profile.panes else 0.0
    if share < max(usual, worst, _share(before, MISSING)) + rule.missing:
        return None
    detail = f"{column.name}: {share:.0%} of the rows are null; {usual:.0%} were in training, at most {worst:.0%} in an hour"
    return QualityChange(column.name, "missing", 1.0, {"missing": share, "reference": usual, "worst": worst}, detail)


def _unseen(column: Column, counts: Counts, before: Counts | None, pane: Fold, rule: QualitySettings) -> QualityChange | None:
    assert not isinstance(column, NumberColumn)
    share = column.unseen(counts) / max(int(counts.sum()), 1)
    if share < rule.unseen or (before is not None and column.unseen(before) / max(int(before.sum()), 1) >= share / 2):
        return None
    seen = ", ".join(map(repr, sorted(pane.unseen.get(column.name, {}))[:5]))
    detail = f"{column.name}: {share:.0%} of the rows hold texts that training never saw ({seen})"
    return QualityChange(column.name, "schema_change", 1.0, {"unseen": share}, detail)


def _unit(
    profile: Profile, place: int, column: NumberColumn, counts: Counts, before: Counts | None, rule: QualitySettings
) -> QualityChange | None:
    """A conversion explains the pane: its shape differs from the reference more than any of the reference's panes does (or its
    values lie between those that a discrete column had), and once converted back it differs no more than they usually do.
    """
    heaped = np.cumsum(column.distribution(counts))
    if heaped[-1] < rule.min_rows:
        return None
    rows = int(heaped[-1])
    usual, worst = _ordinary(profile, place, rows, rule)
    novel = column.novel_inside(counts) / rows if column.discrete else 0.0
    gap = distance(column, heaped[:-1] / rows)
    if gap < rule.least_distance or (gap <= worst * 1.1 and novel < rule.novel):
        return None
    ordinary = max(usual, 0.8 / math.sqrt(rows))
    found = scaling_of(column, counts, within=min(ordinary, 0.6 * gap, rule.most_after))
    if found is None or not _explains(found, ordinary, worst, novel=novel >= rule.novel):
        return None
    if not _abrupt(column, found, counts, before, rule):
        return None
    words = f" ({found.name})" if found.name else ""
    detail = (
        f"{column.name}: about {found.factor:.4g} times what training saw{words}; KS D {gap:.2f} before,"
        f" {found.after:.2f} once converted back, {rows} rows"
    )
    figures = {"before": gap, "after": found.after, "offset": found.offset, "novel": novel, "rows": float(rows)}
    return QualityChange(column.name, "unit_change", found.factor, figures, detail)


def _ordinary(profile: Profile, place: int, rows: int, rule: QualitySettings) -> tuple[float, float]:
    """KS D that pieces of the reference usually show, and at most: single panes, or whole windows where there are rows for it."""
    if profile.panes is None:
        return 0.0, 0.0
    usual, worst = profile.panes.figures[place, :2].tolist()
    if profile.noise is not None and profile.noise.windows >= 3 and rows >= profile.rows / profile.noise.windows / 2:
        cluster, sampling = profile.noise.scales["ks"][place].tolist()
        scale = math.sqrt(cluster + sampling / rows)
        return min(usual, max(1.5 * scale, rule.least_distance)), min(worst, 4 * scale)
    return usual, worst


def _explains(found: Scaling, ordinary: float, worst: float, *, novel: bool) -> bool:
    """Converted back the pane is an ordinary one, much nearer than before, and spread widely enough to have a shape. A factor
    without a name, or one that shifts as well, needs more: values never seen, or twice the distance of any training hour.
    """
    plain = bool(found.name) and found.offset == 0
    sure = plain or novel or found.before >= 2 * worst
    return sure and found.after <= ordinary and found.after <= 0.6 * found.before and found.spread >= 5


def _abrupt(column: NumberColumn, found: Scaling, counts: Counts, before: Counts | None, rule: QualitySettings) -> bool:
    """The panes just before differ from this one as the reference does, by the same conversion."""
    if before is None:
        return True
    heaped, now = np.cumsum(column.distribution(before)), np.cumsum(column.distribution(counts))
    if heaped[-1] < rule.recent_rows:
        return True
    gap = float(np.abs(heaped / heaped[-1] - now / now[-1]).max())
    middles = [float(column.positions[int(np.searchsorted(h, h[-1] / 2))]) for h in (heaped, now)]
    expected = middles[0] * found.factor + found.offset
    return gap >= max(rule.least_distance, 0.5 * found.before) and abs(middles[1] - expected) < abs(middles[1] - middles[0])


def _range(
    column: NumberColumn, counts: Counts, before: Counts | None, pane: Fold, profile: Profile, rule: QualitySettings
) -> QualityChange | None:
    """Many numbers farther from the reference's range than the range is wide."""
    known = counts[HEAD:].sum()
    if known < rule.min_rows or not len(column.cells):
        return None
    share = _far(column, counts, before)
    if share < rule.far:
        return None
    place = [c.name for c in profile.inputs.numbers].index(column.name)
    usual = float(np.average(column.cell_values, weights=column.cell_counts))
    mean = column.mean(counts, int(pane.sums[place]))
    factor = mean / usual if usual else 1.0
    detail = f"{column.name}: {share:.0%} of the rows lie far outside training's range; mean {mean:.4g}, not {usual:.4g}"
    return QualityChange(column.name, "range", factor, {"far": share, "mean": mean, "reference_mean": usual}, detail)


def _far(column: NumberColumn, counts: Counts, before: Counts | None) -> float:
    """Share of numbers farther from what training and the recent panes hold than training's range is wide."""
    low, high = float(column.cell_values[0]), float(column.cell_values[-1])
    span = (high - low) or abs(high) or 1.0
    held = np.flatnonzero(column.distribution(before)) if before is not None else np.zeros(0, np.int64)
    if len(held):
        low, high = min(low, float(column.positions[held[0]])), max(high, float(column.positions[held[-1]]))
    spread = column.distribution(counts)
    under = int(np.searchsorted(column.edges, low - span, side="right"))
    over = int(np.searchsorted(column.edges, high + span)) + 1
    return float((spread[:under].sum() + spread[over:].sum()) / max(int(spread.sum()), 1))
