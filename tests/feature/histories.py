"""Generated histories: late data, corrections, ties, nulls, extremes of magnitude, texts."""

import numpy as np
from hypothesis import strategies as st

from services.feature.domain.facts import Facts
from services.feature.domain.views import Aggregation, Feature, FeatureView, Kind, SourceColumn
from tests.feature.oracle import HOUR, MINUTE, Fact

BASE = 1_357_000_000_000_000
KEYS = ("EWR", "JFK", "LGA")

numbers = st.one_of(
    st.none(), st.integers(-3, 3).map(float), st.sampled_from([0.1, 0.2, 0.3, 1e16, -1e16, 1e-9, 1e200, -1e200, 5e-324]),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: x + 0.0),
)  # fmt: skip
moments = st.one_of(
    st.integers(0, 200).map(lambda m: BASE + m * MINUTE),
    st.integers(0, 30 * HOUR).map(lambda us: BASE + us),
    st.integers(0, 40).map(lambda h: BASE + h * HOUR),
)
delays = st.one_of(st.just(0), st.integers(0, 3 * MINUTE), st.integers(0, 20 * HOUR), st.just(-5 * MINUTE))
values = st.fixed_dictionaries({"a": numbers, "b": numbers, "s": st.sampled_from([None, "", "x", "é€", "rain"])})


@st.composite
def histories(draw: st.DrawFn, most: int = 30) -> list[Fact]:
    """Facts in the order they are written."""
    rows = draw(st.lists(st.tuples(st.sampled_from(KEYS[:2]), moments, delays, values), max_size=most))
    return [Fact(key, event, event + delay, seq, found) for seq, (key, event, delay, found) in enumerate(rows)]


WINDOWS = (MINUTE, 5 * MINUTE + 30_000_000, 2 * HOUR, 2 * HOUR + MINUTE, 24 * HOUR)


@st.composite
def views(draw: st.DrawFn) -> FeatureView:
    """Views with every aggregation and a few windows."""
    chosen = draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True))
    features = [
        Feature(f"{how}-{column}-{window}".replace("-", "_"), how, column, window, divisor)
        for window in chosen
        for how, column, divisor in (
            (Aggregation.COUNT, "", ""), (Aggregation.COUNT, "a", ""), (Aggregation.COUNT, "s", ""), (Aggregation.SUM, "a", ""),
            (Aggregation.MEAN, "a", ""), (Aggregation.MIN, "b", ""), (Aggregation.MAX, "b", ""), (Aggregation.RATIO, "a", "b"),
        )
    ]  # fmt: skip
    ages = draw(st.sampled_from([(0, 0), (3 * HOUR, 90 * MINUTE), (24 * HOUR, 0)]))
    features += [
        Feature("last_a", Aggregation.LAST, "a"), Feature("last_s", Aggregation.LAST, "s"),
        Feature("last_b_recent", Aggregation.LAST, "b", ages[1]),
    ]  # fmt: skip
    columns = (SourceColumn("a", Kind.NUMBER), SourceColumn("s", Kind.TEXT), SourceColumn("b", Kind.NUMBER))
    return FeatureView("weather", "airport", "origin", columns, tuple(features), ttl_us=ages[0])


def facts_from(history: list[Fact]) -> Facts:
    """The platform's form of a history."""
    texts = np.array([*(fact.values["s"] for fact in history), None], dtype=object)[:-1]
    numbers = [[np.nan if fact.values[name] is None else fact.values[name] for name in ("a", "b")] for fact in history]
    entity, event, known, seq = (
        np.array(found, dtype=np.int64)
        for found in zip(*((KEYS.index(f.key), f.event, f.known, f.seq) for f in history), strict=True)
    ) if history else (np.empty(0, dtype=np.int64),) * 4  # fmt: skip
    return Facts(KEYS[:2], entity, event, known, seq, np.array(numbers).reshape(len(history), 2) + 0.0, (texts,))
