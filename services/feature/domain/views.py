"""What is a feature view, and which changes of one can the rows that exist follow?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from perennial.errors import FailedPrecondition, InvalidArgument, NotFound

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
MINUTES_UP_TO_US = 2 * HOUR_US
"""Windows up to this length have a far edge on a minute, longer ones on an hour."""
LONGEST_WINDOW_US = 400 * 24 * HOUR_US


class Kind(StrEnum):
    """Kind of the values in a column."""

    NUMBER = "number"
    TEXT = "text"


class Aggregation(StrEnum):
    """What a feature does with the rows of its window."""

    LAST = "last"
    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column of the rows that a view is computed from."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule on a source column."""

    column: str
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature; ``window_us`` 0 means none (LAST: the view's ttl)."""

    name: str
    aggregation: Aggregation
    column: str = ""
    window_us: int = 0
    divisor: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class FeatureView:
    """Features of one kind of entity, computed from one stream of source rows; ``ttl_us`` 0 means for ever."""

    name: str
    entity: str
    key_column: str
    columns: tuple[SourceColumn, ...]
    features: tuple[Feature, ...]
    ttl_us: int = 0
    constraints: tuple[Constraint, ...] = ()
    description: str = ""
    owner: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    online: bool = True
    offline: bool = True

    @property
    def number_columns(self) -> tuple[str, ...]:
        """Source columns of numbers, in order."""
        return tuple(column.name for column in self.columns if column.kind is Kind.NUMBER)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Source columns of texts, in order."""
        return tuple(column.name for column in self.columns if column.kind is Kind.TEXT)

    def chosen(self, names: Sequence[str]) -> tuple[Feature, ...]:
        """The features of these names, all of them for none. NotFound when there is no such feature."""
        if not names:
            return self.features
        known = {feature.name: feature for feature in self.features}
        if missing := [name for name in names if name not in known]:
            raise NotFound(f"view {self.name!r} has no feature {missing[0]!r}; it has {', '.join(known)}")
        return tuple(known[name] for name in names)

    def kind_of(self, feature: Feature) -> Kind:
        """The kind of a feature's values."""
        if feature.aggregation is Aggregation.LAST and feature.column in self.text_columns:
            return Kind.TEXT
        return Kind.NUMBER


def checked(view: FeatureView) -> FeatureView:
    """``view`` if it is one that can be computed. InvalidArgument naming the view and what is wrong in it."""
    where = f"view {view.name!r}"
    for what, name in (("name", view.name), ("entity", view.entity), ("key_column", view.key_column)):
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"{where}: {what} {name!r} must be letters, digits and _.:- and begin with a letter")
    names = [column.name for column in view.columns]
    if not names or view.key_column in names or len(set(names)) < len(names):
        raise InvalidArgument(f"{where}: columns must be named once each, at least one, the key column left out")
    if bad := [name for name in names if not _NAME.fullmatch(name)]:
        raise InvalidArgument(f"{where}: column {bad[0]!r} must be letters, digits and _.:- and begin with a letter")
    if not view.features:
        raise InvalidArgument(f"{where}: it needs at least one feature")
    if len({feature.name for feature in view.features}) < len(view.features):
        raise InvalidArgument(f"{where}: feature names must be unique")
    if view.ttl_us < 0:
        raise InvalidArgument(f"{where}: ttl must not be negative")
    for feature in view.features:
        _check_feature(view, feature, f"{where}, feature {feature.name!r}")
    for rule in view.constraints:
        _check_rule(view, rule, f"{where}, constraint on {rule.column!r}")
    return view


def _check_feature(view: FeatureView, feature: Feature, where: str) -> None:
    if not _NAME.fullmatch(feature.name):
        raise InvalidArgument(f"{where}: its name must be letters, digits and _.:- and begin with a letter")
    how, numbers = feature.aggregation, view.number_columns
    if feature.window_us < 0 or feature.window_us > LONGEST_WINDOW_US:
        raise InvalidArgument(f"{where}: a window is at least 0 and at most 400 days")
    if how is not Aggregation.LAST and feature.window_us < MINUTE_US:
        raise InvalidArgument(f"{where}: {how} needs a window of at least a minute")
    known = {"", *numbers, *view.text_columns} if how is Aggregation.COUNT else {*numbers}
    if how is Aggregation.LAST:
        known |= {*view.text_columns}
    if feature.column not in known:
        raise InvalidArgument(
            f"{where}: {how} cannot use column {feature.column!r}; it can use {', '.join(sorted(known - {''}))}"
        )
    if (how is Aggregation.RATIO) != bool(feature.divisor) or (feature.divisor and feature.divisor not in numbers):
        raise InvalidArgument(f"{where}: a divisor is a number column and belongs to a ratio")


def _check_rule(view: FeatureView, rule: Constraint, where: str) -> None:
    if rule.column not in {column.name for column in view.columns}:
        raise InvalidArgument(f"{where}: there is no such column")
    limits = [limit for limit in (rule.minimum, rule.maximum) if limit is not None]
    if limits and rule.column not in view.number_columns:
        raise InvalidArgument(f"{where}: only numbers have limits")
    if any(limit != limit for limit in limits) or (len(limits) == 2 and limits[0] > limits[1]):  # noqa: PLR0124 NaN
        raise InvalidArgument(f"{where}: min must be at most max")


def check_change(old: FeatureView, new: FeatureView) -> None:
    """Whether rows written for ``old`` serve ``new``: columns may be added at the end, features and rules may change.

    FailedPrecondition otherwise.
    """
    if (old.entity, old.key_column) != (new.entity, new.key_column):
        raise FailedPrecondition(
            f"view {new.name!r} has rows of entity {old.entity!r} keyed by {old.key_column!r}; use a new name"
        )
    if new.columns[: len(old.columns)] != old.columns:
        raise FailedPrecondition(f"view {new.name!r} has rows: its columns can only be added to, at the end")


@dataclass(frozen=True, slots=True)
class StoredView:
    """A view as the store holds it; ``layout`` counts the definitions that changed how it is kept online."""

    id: int
    version: int
    view: FeatureView
    created_us: int = field(default=0, compare=False)
