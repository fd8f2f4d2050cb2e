"""Is broken data found within a pane, and drift left in peace? (# MON-16 R02)"""

from functools import cache

import numpy as np
import pytest
from perennial.errors import InvalidArgument
from perennial.frames import Table
from perennial.stats.fold import Fold, Folder
from perennial.stats.profile import Profile, build_profile
from perennial.stats.quality import QualityChange, quality_changes
from perennial.stats.units import KNOWN

from tests.stats import made

ROUTES = np.random.default_rng(99).integers(90, 2600, 150).astype(float)


def hours(count: int, seed: int, *, rows: int = 50, drift: float = 0.0) -> tuple[Table, np.ndarray]:
    """Hours of a flight-like stream: each hour has its own mix of routes and its own weather; ``drift`` warms it, a day."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(len(ROUTES), 0.6), size=count) + 1 / len(ROUTES)
    routes = np.concatenate([random.choice(ROUTES, rows, p=share / share.sum()) for share in shares])
    day = np.repeat(np.arange(count) // 24, rows)
    hour_effect = np.repeat(random.normal(0, 1, count), rows)
    temperature = 5 + 4 * hour_effect + drift * day + random.normal(0, 0.3, count * rows)
    seats = random.choice([55.0, 140.0, 149.0, 178.0, 200.0, 330.0], count * rows)
    seats[random.random(count * rows) < 0.15] = np.nan
    duration = np.exp(random.normal(5, 0.5, count * rows) + 0.25 * hour_effect)
    carrier = random.choice(["UA", "AA", "DL"], count * rows).tolist()
    columns = {"distance": routes, "temperature": temperature, "seats": seats, "duration": duration, "carrier": carrier}
    return Table.of(columns), np.repeat(np.arange(count, dtype=np.int64), rows)


@cache
def known() -> tuple[Profile, Folder]:
    table, hour = hours(24 * 31, 1)
    profile = build_profile(table, times_us=hour * made.HOUR_US)
    return profile, Folder(profile)


def found_in(table: Table, recent: Fold | None = None) -> dict[str, QualityChange]:
    profile, folder = known()
    return {change.column: change for change in quality_changes(profile, folder.fold(table), recent)}


def changed(table: Table, name: str, values: np.ndarray) -> Table:
    return Table.of({n: (values if n == name else table.column(n)) for n in table.names})


@pytest.mark.parametrize(
    "factor",
    [KNOWN["kilometres for miles"][0], KNOWN["not kilometres for miles"][0], KNOWN["not metres for feet"][0], 1000.0, 60.0],
)
def test_a_changed_unit_is_named_within_an_hour(factor: float) -> None:
    """Hours of fifty rows in another unit: found in nine of ten, and nearly always with the right factor."""
    right = wrong = 0
    for seed in range(40):
        table, _ = hours(1, 1000 + seed)
        change = found_in(changed(table, "distance", table.column("distance") * factor)).get("distance")
        right += change is not None and change.factor == pytest.approx(factor, rel=1e-6)
        wrong += change is not None and change.factor != pytest.approx(factor, rel=1e-6)
    assert right >= 34
    assert wrong <= 6


def test_a_day_in_another_unit_gives_the_factor_exactly() -> None:
    """With a day of rows the factor is the conversion's own, of continuous columns too."""
    table, _ = hours(24, 77)
    for name in ("distance", "duration"):
        change = found_in(changed(table, name, table.column(name) * 1.609344))[name]
        assert change.kind == "unit_change"
        assert change.factor == pytest.approx(1.609344)
        assert "kilometres" in change.detail


def test_ordinary_hours_are_no_incident() -> None:
    """In 720 hours with their own routes and weather nothing is called broken."""
    profile, folder = known()
    table, hour = hours(720, 2)
    folds = folder.fold_panes(hour, table)
    assert [quality_changes(profile, fold) for fold in folds.values()] == [()] * 720


def test_a_season_is_no_incident() -> None:
    """Weather that warms by a degree a day for two months leaves the reference far behind, but never at once."""
    profile, folder = known()
    table, hour = hours(24 * 60, 3, drift=1.0)
    folds = folder.fold_panes(hour, table)
    recent = folder.empty()
    calls = []
    for pane in sorted(folds):
        calls += [c.detail for c in quality_changes(profile, folds[pane], recent) if recent.rows]
        day = [folds[p] for p in range(max(0, pane - 23), pane + 1)]
        recent = day[0]
        for fold in day[1:]:
            recent = recent.merged(fold)
    assert calls == []


def test_longer_flights_are_no_unit_change() -> None:
    """An hour of long hauls has larger numbers, but numbers that training knew."""
    table, _ = hours(4, 5)
    chosen = np.flatnonzero(table.column("distance") > 1500)[:80]
    assert "distance" not in found_in(table.take(chosen))


def test_nulls_texts_ranges_and_types_are_told_apart() -> None:
    """Each kind of damage has its own name."""
    table, _ = hours(2, 6)
    rows = table.rows
    assert found_in(changed(table, "distance", np.full(rows, np.nan)))["distance"].kind == "missing"
    texts = Table.of({**{n: table.column(n) for n in table.number_names}, "carrier": ["ZZ"] * rows})
    assert found_in(texts)["carrier"].kind == "schema_change"
    assert "'ZZ'" in found_in(texts)["carrier"].detail
    assert found_in(table.without(["seats"]))["seats"].kind == "schema_change"
    sentinel = found_in(changed(table, "temperature", np.full(rows, -999.0)))["temperature"]
    assert (sentinel.kind, round(sentinel.figures["mean"])) == ("range", -999)


def test_what_the_recent_panes_show_already_is_not_news() -> None:
    """A change that has become the rule is reported once, by the panes that began it."""
    _, folder = known()
    before, _ = hours(24, 8)
    after, _ = hours(1, 9)
    kilometres = changed(after, "distance", after.column("distance") * 1.609344)
    long_since = folder.fold(changed(before, "distance", before.column("distance") * 1.609344))
    assert "distance" in found_in(kilometres, folder.fold(before))
    assert "distance" not in found_in(kilometres, long_since)


def test_few_rows_are_not_judged() -> None:
    """Below forty rows there is no shape to speak of."""
    table, _ = hours(1, 4, rows=39)
    assert found_in(changed(table, "distance", table.column("distance") * 1.609344)) == {}


def test_a_fold_over_another_profile_is_refused() -> None:
    """Bins of one version say nothing about another."""
    profile, _ = known()
    other = Folder(build_profile(made.mixed(), times_us=made.times(400)))
    with pytest.raises(InvalidArgument):
        quality_changes(profile, other.empty())
