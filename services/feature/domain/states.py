"""What is kept of entities so that any of their features can be evaluated as of a time?

Minute cells, hour cells and, for LAST, facts. A **cell** holds the figures of the facts of one bucket of event time that
became visible at one moment: facts known by the end of their bucket at that end, later ones at the time they became
known. So a cell counts for a row at t when its bucket lies in the window and it is visible by t, whether the facts came
in order, late, or in one heap. Cells add up: splitting one in two changes no answer.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.feature.domain.exact import group_sums
from services.feature.domain.facts import Facts
from services.feature.domain.layout import ADDED, LEAST, Layout, Term
from services.feature.domain.views import HOUR_US, MINUTE_US

Ints = NDArray[np.int64]
BUCKET_BITS = 30
BUCKET_MIDDLE = 1 << (BUCKET_BITS - 1)
"""Buckets between 1900 and 2200, counted from 1970, lie within the middle on either side."""
ALWAYS = -(2**62)
"""``complete_from`` of an entity of which nothing was dropped; ``newest`` of one without facts."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of one bucket size, sorted by entity, bucket and visibility. ``bucket`` counts buckets since 1970."""

    entity: Ints
    bucket: Ints
    visible: Ints
    figures: NDArray[np.float64]
    """Cells x the layout's terms."""

    def __len__(self) -> int:
        return len(self.bucket)

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Cells":
        """These cells."""
        return Cells(self.entity[rows], self.bucket[rows], self.visible[rows], self.figures[rows])


@dataclass(frozen=True, slots=True)
class LastFacts:
    """Facts for LAST, sorted by entity, event time, known_at and sequence."""

    entity: Ints
    event: Ints
    known: Ints
    seq: Ints
    numbers: NDArray[np.float64]
    """Facts x the layout's ``last_numbers``."""
    texts: tuple[NDArray[np.object_], ...]
    """One array a column of the layout's ``last_texts``."""

    def __len__(self) -> int:
        return len(self.event)

    def take(self, rows: Ints | NDArray[np.bool_]) -> "LastFacts":
        """These facts."""
        texts = tuple(text[rows] for text in self.texts)
        return LastFacts(self.entity[rows], self.event[rows], self.known[rows], self.seq[rows], self.numbers[rows], texts)


@dataclass(frozen=True, slots=True)
class States:
    """The states of some entities of a view; entities are numbered from 0."""

    layout: Layout
    minutes: Cells
    hours: Cells
    facts: LastFacts
    newest: Ints
    """Event time of each entity's newest fact."""
    complete_from: Ints
    """Answers are exact for rows at or after this time; for earlier ones something needed may have been dropped."""

    def __len__(self) -> int:
        return len(self.newest)


def states_of(layout: Layout, facts: Facts) -> States:
    """The states of entities that have these facts and no others."""
    entities = len(facts.keys)
    no = np.empty(0, dtype=np.int64)
    cells = Cells(no, no, no, np.empty((0, len(layout.terms))))
    none = LastFacts(
        no, no, no, no, np.empty((0, len(layout.last_numbers))), tuple(np.empty(0, dtype=object) for _ in layout.last_texts)
    )
    never = np.full(entities, ALWAYS, dtype=np.int64)
    return with_facts(States(layout, cells, cells, none, never, never.copy()), facts)


def with_facts(states: States, facts: Facts) -> States:
    """The states with more facts of the same entities."""
    layout = states.layout
    newest = np.full(len(states), ALWAYS, dtype=np.int64)
    np.maximum.at(newest, facts.entity, facts.event)
    figures = _figures(layout, facts)
    keeps_minutes = bool(layout.minute_reach_us or layout.hour_reach_us)
    added = States(
        layout,
        _cells(layout, facts, figures, MINUTE_US if keeps_minutes else 0),
        _cells(layout, facts, figures, HOUR_US if layout.hour_reach_us else 0),
        _last_facts(layout, facts),
        newest,
        states.complete_from,
    )
    return _merged(states, added)


def _merged(left: States, right: States) -> States:
    layout = left.layout
    return States(
        layout,
        _regrouped(layout, _both_cells(left.minutes, right.minutes)),
        _regrouped(layout, _both_cells(left.hours, right.hours)),
        _sorted_facts(_both_facts(left.facts, right.facts)),
        np.maximum(left.newest, right.newest),
        np.maximum(left.complete_from, right.complete_from),
    )


def trimmed(states: States, slack_us: int) -> States:
    """The states without what no row later than ``slack_us`` before an entity's newest fact can need."""
    layout = states.layout
    cut = np.maximum(np.where(states.newest > ALWAYS, states.newest - slack_us, ALWAYS), states.complete_from)
    minute = cut // MINUTE_US
    least_minute = (minute * MINUTE_US - layout.minute_reach_us) // MINUTE_US
    if layout.hour_reach_us:
        least_minute = np.minimum(least_minute, minute // 60 * 60)
    least_hour = (minute * MINUTE_US - layout.hour_reach_us) // HOUR_US
    minutes = states.minutes.bucket >= least_minute[states.minutes.entity]
    hours = states.hours.bucket >= least_hour[states.hours.entity]
    facts = _needed_facts(states, cut)
    dropped = np.zeros(len(states), dtype=bool)
    for kept, part in ((minutes, states.minutes), (hours, states.hours), (facts, states.facts)):
        dropped[part.entity[~kept]] = True
    return replace(
        states, minutes=states.minutes.take(minutes), hours=states.hours.take(hours), facts=states.facts.take(facts),
        complete_from=np.where(dropped, cut, states.complete_from),
    )  # fmt: skip


def _needed_facts(states: States, cut: Ints) -> NDArray[np.bool_]:
    """Facts from the last one that was known and happened before the cut; older ones can never be LAST again."""
    facts = states.facts
    if not len(facts):
        return np.zeros(0, dtype=bool)
    place = np.arange(len(facts))
    limit = cut[facts.entity]
    base = np.full(len(states), -1, dtype=np.int64)
    settled = (facts.event < limit) & (facts.known <= limit)
    np.maximum.at(base, facts.entity[settled], place[settled])
    needed = place >= base[facts.entity]
    if reach := states.layout.last_reach_us:
        needed &= facts.event >= limit - reach
    return needed


def _figures(layout: Layout, facts: Facts) -> NDArray[np.float64]:
    figures = np.empty((len(facts), len(layout.terms)))
    for place, term in enumerate(layout.terms):
        figures[:, place] = _figure(layout, facts, term)
    return figures


def _figure(layout: Layout, facts: Facts, term: Term) -> NDArray[np.float64]:
    """The figure of each fact on its own."""
    if not term.column:
        return np.ones(len(facts))
    if term.column in layout.texts:
        texts = facts.texts[layout.texts.index(term.column)]
        return np.array([text is not None for text in texts.tolist()], dtype=np.float64)
    values = facts.numbers[:, layout.numbers.index(term.column)]
    present = ~np.isnan(values)
    if term.given:
        present &= ~np.isnan(facts.numbers[:, layout.numbers.index(term.given)])
    return np.where(present, 1.0 if term.what == "count" else values, term.nothing)


def _cells(layout: Layout, facts: Facts, figures: NDArray[np.float64], width_us: int) -> Cells:
    if not width_us:
        no = np.empty(0, dtype=np.int64)
        return Cells(no, no, no, np.empty((0, len(layout.terms))))
    bucket = facts.event // width_us
    visible = np.maximum((bucket + 1) * width_us, facts.known)
    return Cells(facts.entity, bucket, visible, figures)


def _both_cells(left: Cells, right: Cells) -> Cells:
    if not len(left) or not len(right):
        return left if len(left) else right
    return Cells(*(np.concatenate([getattr(left, name), getattr(right, name)]) for name in Cells.__slots__))


def _regrouped(layout: Layout, cells: Cells) -> Cells:
    """The cells sorted, those of the same entity, bucket and visibility made one (or as few as hold the exact sums)."""
    if len(cells) < 2:
        return cells
    ordered = _sorted_cells(cells)
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = (
        (ordered.entity[1:] != ordered.entity[:-1])
        | (ordered.bucket[1:] != ordered.bucket[:-1])
        | (ordered.visible[1:] != ordered.visible[:-1])
    )
    if fresh.all():
        return ordered
    starts = np.flatnonzero(fresh)
    head = ordered.take(starts)
    figures = head.figures.copy()
    remainders: list[Cells] = []
    if added := layout.added:
        levels = group_sums(ordered.figures[:, added], starts)
        figures[:, added] = levels[0]
        remainders = [_remainder(layout, head, level) for level in levels[1:]]
    for place, term in enumerate(layout.terms):
        if term.merge != ADDED:
            better = np.minimum if term.merge == LEAST else np.maximum
            figures[:, place] = better.reduceat(ordered.figures[:, place], starts)
    whole = Cells(head.entity, head.bucket, head.visible, figures)
    if not remainders:
        return whole
    for rest in remainders:
        whole = _both_cells(whole, rest)
    return _sorted_cells(whole)


def _sorted_cells(cells: Cells) -> Cells:
    """By entity, bucket and visibility; fast for two sorted runs."""
    keys = cell_keys(cells)
    order = np.argsort(keys, kind="stable")
    ordered = cells.take(order)
    keys = keys[order]
    if ((keys[1:] == keys[:-1]) & (ordered.visible[1:] < ordered.visible[:-1])).any():
        return cells.take(np.lexsort((cells.visible, keys[np.argsort(order)])))
    return ordered


def cell_keys(cells: Cells) -> Ints:
    """Numbers that sort as entity and bucket do."""
    return (cells.entity << BUCKET_BITS) | (cells.bucket + BUCKET_MIDDLE)


def _remainder(layout: Layout, head: Cells, level: NDArray[np.float64]) -> Cells:
    """Cells that hold what one float could not of the sums."""
    rows = np.flatnonzero(level.any(axis=1))
    figures = np.tile(np.array(layout.nothing), (len(rows), 1))
    figures[:, layout.added] = level[rows]
    return Cells(head.entity[rows], head.bucket[rows], head.visible[rows], figures)


def _last_facts(layout: Layout, facts: Facts) -> LastFacts:
    kept = facts if layout.keeps_facts else facts.take(np.zeros(0, dtype=np.int64))
    numbers = kept.numbers[:, [layout.numbers.index(name) for name in layout.last_numbers]]
    texts = tuple(kept.texts[layout.texts.index(name)] for name in layout.last_texts)
    return LastFacts(kept.entity, kept.event, kept.known, kept.seq, numbers, texts)


def _both_facts(left: LastFacts, right: LastFacts) -> LastFacts:
    if not len(left) or not len(right):
        return left if len(left) else right
    entity, event, known, seq, numbers = (
        np.concatenate([getattr(left, name), getattr(right, name)]) for name in LastFacts.__slots__[:5]
    )
    texts = tuple(np.concatenate(pair) for pair in zip(left.texts, right.texts, strict=True))
    return LastFacts(entity, event, known, seq, numbers, texts)


def _sorted_facts(facts: LastFacts) -> LastFacts:
    if len(facts) < 2 or _in_order(facts):
        return facts
    return facts.take(np.lexsort((facts.seq, facts.known, facts.event, facts.entity)))


def _in_order(facts: LastFacts) -> bool:
    """Whether facts are sorted already, as those read from files are."""
    later = np.zeros(len(facts) - 1, dtype=bool)
    tied = np.ones(len(facts) - 1, dtype=bool)
    for column in (facts.entity, facts.event, facts.known, facts.seq):
        before, after = column[:-1], column[1:]
        if (tied & (after < before)).any():
            return False
        later |= tied & (after > before)
        tied = ~later
        if not tied.any():
            break
    return True
