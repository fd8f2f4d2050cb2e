"""The point-in-time join: features of an entity a row, each as of its row's time, a batch of entities after the other."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.feature.domain.evaluate import evaluate, needed_by
from services.feature.domain.facts import Facts
from services.feature.domain.layout import Layout
from services.feature.domain.states import states_of
from services.feature.domain.views import Feature, FeatureView, Kind

Column = NDArray[np.generic]


class Joining:
    """Rows of entities, and the columns that fill up as the facts of each batch come in.

    ``keys`` are the entities in the order in which histories are read best; ``columns`` is complete after all batches.
    """

    def __init__(self, view: FeatureView, features: Sequence[Feature], layout: Layout, rows: "KeyedRows") -> None:
        self._view, self._features, self._layout, self._rows = view, features, layout, rows
        self.columns: list[Column] = [_nothing(view.kind_of(feature), len(rows.times)) for feature in features]
        self.until = int(rows.times.max(initial=0))
        reach = needed_by(layout)
        self.since = int(rows.times.min(initial=0)) - reach if reach else None

    def fill(self, first: int, last: int, facts: Facts, known_by_us: int | None) -> None:
        """Join the rows of keys first to last with their facts, only those known by then if given."""
        if known_by_us is not None:
            facts = facts.take(facts.known <= known_by_us)
        rows = self._rows.of(first, last)
        states = states_of(self._layout, facts)
        found = evaluate(self._view, self._features, states, self._rows.entity[rows] - first, self._rows.times[rows])
        for column, values in zip(self.columns, found, strict=True):
            column[rows] = values


class KeyedRows:
    """Rows by the place of their key; -1 for none."""

    def __init__(
        self,
        keys: Sequence[str],
        entity: NDArray[np.int64],
        times: NDArray[np.int64],
        order: Callable[[Sequence[str]], list[int]],
    ) -> None:
        places = np.array(order(keys), dtype=np.int64)
        self.keys = [keys[place] for place in places.tolist()]
        rank = np.empty(len(places) + 1, dtype=np.int64)
        rank[places] = np.arange(len(places))
        rank[-1] = -1
        self.entity, self.times = rank[entity], times
        self._by_key = np.argsort(self.entity, kind="stable")
        self._edges = np.searchsorted(self.entity[self._by_key], np.arange(len(keys) + 1))

    def of(self, first: int, last: int) -> NDArray[np.int64]:
        """The rows of keys first to last."""
        return self._by_key[self._edges[first] : self._edges[last]]


def batches(rows: Sequence[int] | NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Runs of entities with at most ``most`` facts in all (an entity with more is alone); ``rows`` counts each one's facts.

    >>> batches([3, 3, 9, 1], 6)
    [(0, 2), (2, 3), (3, 4)]
    """
    found, start, held = [], 0, 0
    for place, count in enumerate(rows):
        if place > start and held + count > most:
            found.append((start, place))
            start, held = place, 0
        held += int(count)
    if start < len(rows):
        found.append((start, len(rows)))
    return found


def _nothing(kind: Kind, rows: int) -> Column:
    return np.full(rows, None, dtype=object) if kind is Kind.TEXT else np.full(rows, np.nan)
