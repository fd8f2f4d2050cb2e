"""What must be kept about an entity so that every feature of its view can be read?

Windows need *terms* a time bucket (counts, sums, least and greatest values); LAST needs the rows themselves. Terms are
shared between features, so ten windows over one column cost one sum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np

from services.feature.domain.views import MINUTES_UP_TO_US, Aggregation, Feature, FeatureView

ADDED, LEAST, GREATEST = "added", "least", "greatest"


@dataclass(frozen=True, slots=True)
class Term:
    """One figure a bucket: ``what`` is count, sum, min or max, over rows where ``column`` and ``given`` have a value."""

    what: str
    column: str = ""
    given: str = ""

    @property
    def merge(self) -> str:
        """How two buckets' figures become one."""
        return {"min": LEAST, "max": GREATEST}.get(self.what, ADDED)

    @property
    def nothing(self) -> float:
        """The figure of no rows."""
        return {"min": np.inf, "max": -np.inf}.get(self.what, 0.0)


def terms_of(feature: Feature) -> tuple[Term, ...]:
    """The terms a windowed feature is computed from, in the order its formula takes them."""
    column, divisor = feature.column, feature.divisor
    count = Term("count", column)
    table: dict[Aggregation, tuple[Term, ...]] = {
        Aggregation.COUNT: (count,),
        Aggregation.SUM: (Term("sum", column), count),
        Aggregation.MEAN: (Term("sum", column), count),
        Aggregation.MIN: (Term("min", column),),
        Aggregation.MAX: (Term("max", column),),
        Aggregation.RATIO: (Term("sum", column, divisor), Term("sum", divisor, column)),
    }
    return table.get(feature.aggregation, ())


@dataclass(frozen=True)
class Layout:
    """What is kept of an entity of a view, and how wide it is."""

    numbers: tuple[str, ...]
    """The source's number columns, in the order facts carry them."""
    texts: tuple[str, ...]
    """The source's text columns."""
    terms: tuple[Term, ...]
    last_numbers: tuple[str, ...]
    last_texts: tuple[str, ...]
    keeps_facts: bool
    minute_reach_us: int
    """Longest window with minute edges; 0 when there is none."""
    hour_reach_us: int
    """Longest window with hour edges; 0 when there is none."""
    last_reach_us: int
    """Oldest row that LAST may use; 0 means any."""

    @classmethod
    def of(cls, view: FeatureView) -> "Layout":
        """The layout of a view."""
        windowed = [feature for feature in view.features if feature.aggregation is not Aggregation.LAST]
        last = [feature for feature in view.features if feature.aggregation is Aggregation.LAST]
        used = {feature.column for feature in last}
        ages = [age_us(view, feature) for feature in last]
        return cls(
            numbers=view.number_columns,
            texts=view.text_columns,
            terms=tuple(dict.fromkeys(term for feature in windowed for term in terms_of(feature))),
            last_numbers=tuple(name for name in view.number_columns if name in used),
            last_texts=tuple(name for name in view.text_columns if name in used),
            keeps_facts=bool(last),
            minute_reach_us=_longest(windowed, lambda window: window <= MINUTES_UP_TO_US),
            hour_reach_us=_longest(windowed, lambda window: window > MINUTES_UP_TO_US),
            last_reach_us=0 if 0 in ages else max(ages, default=0),
        )

    @cached_property
    def digest(self) -> str:
        """Names the layout; entities packed under another one cannot be read with this one."""
        return sha256(repr(self).encode()).hexdigest()[:12]

    @cached_property
    def added(self) -> list[int]:
        """The places of terms that add up."""
        return [place for place, term in enumerate(self.terms) if term.merge == ADDED]

    @cached_property
    def nothing(self) -> list[float]:
        """The figures of no rows."""
        return [term.nothing for term in self.terms]

    @cached_property
    def place(self) -> dict[Term, int]:
        """Where each term lies."""
        return {term: place for place, term in enumerate(self.terms)}


def age_us(view: FeatureView, feature: Feature) -> int:
    """How old a row may be for a LAST feature; 0 means any age."""
    return feature.window_us or view.ttl_us


def _longest(features: list[Feature], fits: Callable[[int], bool]) -> int:
    return max((feature.window_us for feature in features if fits(feature.window_us)), default=0)
