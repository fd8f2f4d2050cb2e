"""Which rows may be stored, and in which form do they go on?

Facts are columns: entity (an index into keys), event time, the time they became known, a sequence number that orders
ties, and the source columns. A null number is NaN, a null text None.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from perennial.errors import InvalidArgument
from perennial.frames import Table, Text

from services.feature.domain.exact import LARGEST
from services.feature.domain.views import Constraint, FeatureView

Times = NDArray[np.int64]
EARLIEST_US, LATEST_US = -2_208_988_800_000_000, 7_258_118_400_000_000
"""1900 and 2200: times outside are taken for a wrong unit."""
LONGEST_KEY = 512


@dataclass(frozen=True, slots=True)
class Sent:
    """Rows of one view as they came."""

    view: str
    table: Table
    event_us: Sequence[int]
    known_us: Sequence[int]


@dataclass(frozen=True, slots=True)
class Asked:
    """Features of a view for a key a row; no features means all, no names the features' own."""

    view: str
    keys: Text
    features: Sequence[str]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows of one view; ``numbers`` is rows x the view's number columns, ``texts`` one array a text column."""

    keys: tuple[str, ...]
    entity: NDArray[np.int64]
    event: Times
    known: Times
    seq: NDArray[np.int64]
    numbers: NDArray[np.float64]
    texts: tuple[NDArray[np.object_], ...] = ()

    def __len__(self) -> int:
        return len(self.event)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Facts":
        """These rows; keys stay."""
        return replace(
            self, entity=self.entity[rows], event=self.event[rows], known=self.known[rows], seq=self.seq[rows],
            numbers=self.numbers[rows], texts=tuple(text[rows] for text in self.texts),
        )  # fmt: skip

    def compacted(self) -> "Facts":
        """The same rows with the keys that occur and no others."""
        used, entity = np.unique(self.entity, return_inverse=True)
        return replace(self, keys=tuple(self.keys[place] for place in used.tolist()), entity=entity.astype(np.int64))

    def joined(self, other: "Facts") -> "Facts":
        """These rows, then those of ``other``, of the same view."""
        index = {key: place for place, key in enumerate(self.keys)}
        moved = np.array([index.setdefault(key, len(index)) for key in other.keys], dtype=np.int64)
        event, known, seq, numbers = (
            np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("event", "known", "seq", "numbers")
        )
        texts = tuple(np.concatenate(pair) for pair in zip(self.texts, other.texts, strict=True))
        entity = np.concatenate([self.entity, moved[other.entity]])
        return Facts(tuple(index), entity, event, known, seq, numbers, texts)

    @classmethod
    def none(cls, keys: tuple[str, ...], view: FeatureView) -> "Facts":
        """No rows of these entities."""
        no = np.empty(0, dtype=np.int64)
        texts = tuple(np.empty(0, dtype=object) for _ in view.text_columns)
        return cls(keys, no, no, no, no, np.empty((0, len(view.number_columns))), texts)


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that is refused, and why."""

    row: int
    reason: str


def facts_of(view: FeatureView, table: Table, event: Sequence[int], known: Sequence[int], now_us: int) -> tuple[Facts, list[Bad]]:
    """The facts in ``table`` and the rows that must be refused (they are among the facts; the caller drops them or all).

    InvalidArgument when the columns or the number of times are wrong, which is wrong for every row.
    """
    where = f"view {view.name!r}"
    if len(event) != table.rows:
        raise InvalidArgument(f"{where}: {table.rows} rows need {table.rows} event times, not {len(event)}")
    if len(known) not in (0, table.rows):
        raise InvalidArgument(f"{where}: {table.rows} rows need {table.rows} times in known_at or none, not {len(known)}")
    known_names = {view.key_column, *view.number_columns, *view.text_columns}
    if extra := [name for name in table.names if name not in known_names]:
        raise InvalidArgument(f"{where}: no column {extra[0]!r}; it has {', '.join(sorted(known_names))}")
    keys, entity = _keys(view, table)
    known_at = _times(where, "known", known) if len(known) else np.full(table.rows, now_us)
    facts = Facts(
        keys, entity, _times(where, "event", event), known_at,
        np.zeros(table.rows, dtype=np.int64), _numbers(view, table),
        tuple(_texts(view, table, name) for name in view.text_columns),
    )  # fmt: skip
    return facts, _bad_rows(view, facts)


def refused(view: FeatureView, bad: Sequence[Bad]) -> InvalidArgument:
    """The error for rows that are refused: the first few, each with its row and column."""
    shown = "; ".join(f"row {one.row}: {one.reason}" for one in bad[:5])
    more = f"; and {len(bad) - 5} more rows" if len(bad) > 5 else ""
    return InvalidArgument(f"view {view.name!r}: {shown}{more}")


def checked_times(times: Sequence[int]) -> Times:
    """Times of rows as microseconds. InvalidArgument for one that looks like another unit."""
    found = _times("times_us", "event", times)
    if len(found) and (found.min() < EARLIEST_US or found.max() >= LATEST_US):
        raise InvalidArgument("times are microseconds since 1970 between the years 1900 and 2200")
    return found


def _times(where: str, what: str, values: Sequence[int]) -> Times:
    try:
        return np.array(values, dtype=np.int64)
    except (OverflowError, ValueError, TypeError):
        raise InvalidArgument(f"{where}: {what} times must be whole microseconds since 1970") from None


def _keys(view: FeatureView, table: Table) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The keys that occur and, a row, the place of its own; -1 for a null key."""
    if view.key_column not in table.names:
        raise InvalidArgument(f"view {view.name!r}: the key column {view.key_column!r} is missing")
    text = table.texts.get(view.key_column)
    if text is None:
        if table.rows and not np.isnan(table.column(view.key_column)).all():
            raise InvalidArgument(f"view {view.name!r}: the key column {view.key_column!r} must hold texts")
        return (), np.full(table.rows, -1, dtype=np.int64)
    return compact_keys(text)


def compact_keys(text: Text) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The distinct values that occur in a text column, and each row's place among them (-1 for null)."""
    used = np.zeros(len(text.values) + 1, dtype=np.int64)  # the last place is that of null, code -1
    used[text.codes] = 1
    occurring = np.flatnonzero(used[:-1])
    keys = [text.values[code] for code in occurring.tolist()]
    used[occurring] = np.arange(len(occurring))
    used[-1] = -1
    codes = used[text.codes]
    if len(set(keys)) == len(keys):
        return tuple(keys), codes
    index: dict[str, int] = {}
    merged = np.array([*(index.setdefault(key, len(index)) for key in keys), -1], dtype=np.int64)
    return tuple(index), merged[codes]


def _numbers(view: FeatureView, table: Table) -> NDArray[np.float64]:
    names = view.number_columns
    if names == table.number_names:
        return table.numbers.astype(np.float64) + 0.0  # -0.0 becomes 0.0
    matrix = np.full((table.rows, len(names)), np.nan)
    for place, name in enumerate(names):
        if name in table.number_names:
            matrix[:, place] = table.column(name)
        elif name in table.texts and (table.texts[name].codes >= 0).any():
            raise InvalidArgument(f"view {view.name!r}: column {name!r} must hold numbers, not texts")
    return matrix + 0.0


def _texts(view: FeatureView, table: Table, name: str) -> NDArray[np.object_]:
    if name in table.texts:
        return table.texts[name].decoded()
    if name in table.number_names and not np.isnan(table.column(name)).all():
        raise InvalidArgument(f"view {view.name!r}: column {name!r} must hold texts, not numbers")
    return np.full(table.rows, None, dtype=object)


def _bad_rows(view: FeatureView, facts: Facts) -> list[Bad]:
    found: dict[int, str] = {}

    def note(rows: NDArray[np.bool_], reason: str) -> None:
        if rows.any():
            for row in np.flatnonzero(rows).tolist():
                found.setdefault(row, reason)

    note(facts.entity < 0, f"the key {view.key_column!r} is null")
    if wrong := [place for place, key in enumerate(facts.keys) if not 0 < len(key) <= LONGEST_KEY or "\0" in key]:
        note(np.isin(facts.entity, wrong), f"the key {view.key_column!r} must be 1 to {LONGEST_KEY} characters without NUL")
    for what, times in (("event time", facts.event), ("known_at", facts.known)):
        note((times < EARLIEST_US) | (times >= LATEST_US), f"its {what} is not in microseconds between the years 1900 and 2200")
    large = np.abs(facts.numbers) > LARGEST
    if large.any():
        for place, name in enumerate(view.number_columns):
            note(large[:, place], f"column {name!r} is infinite or beyond {LARGEST:g}")
    for place, name in enumerate(view.text_columns):
        note(_with_nul(facts.texts[place]), f"column {name!r} holds NUL")
    for rule in view.constraints:
        _apply(view, rule, facts, note)
    return [Bad(row, reason) for row, reason in sorted(found.items())]


def _with_nul(texts: NDArray[np.object_]) -> NDArray[np.bool_]:
    return np.array([text is not None and "\0" in text for text in texts.tolist()], dtype=bool)


def _apply(view: FeatureView, rule: Constraint, facts: Facts, note) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    if rule.column in view.text_columns:
        if rule.required:
            note(facts.texts[view.text_columns.index(rule.column)] == None, f"column {rule.column!r} is null")  # noqa: E711 elementwise
        return
    values = facts.numbers[:, view.number_columns.index(rule.column)]
    if rule.required:
        note(np.isnan(values), f"column {rule.column!r} is null")
    if rule.minimum is not None:
        note(values < rule.minimum, f"column {rule.column!r} is below {rule.minimum:g}")
    if rule.maximum is not None:
        note(values > rule.maximum, f"column {rule.column!r} is above {rule.maximum:g}")
