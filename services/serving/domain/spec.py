"""What may somebody ask of a deployment?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from perennial.errors import InvalidArgument

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
FULL = 1000
"""All traffic, in 0.1 %."""
MAX_ROWS = 10_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class TimeMode(StrEnum):
    """Whose clock a deployment follows."""

    ARRIVAL = "arrival"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class FeatureBinding:
    """Columns of a model that come from a feature view; ``columns`` go with ``features``."""

    view: str
    key_column: str
    features: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """How a new version gets in; ``steps`` are shares of traffic in 0.1 %."""

    auto: bool = False
    max_shadow_us: int = DAY_US
    live_step_us: int = HOUR_US
    steps: tuple[int, ...] = (100, 500, 1000)
    margin: float = 0.1
    decline_unjudged: bool = False
    max_error_rate: float = 0.05
    max_latency_ratio: float = 5.0
    min_calls: int = 0

    def __post_init__(self) -> None:
        """InvalidArgument when it is no way into a deployment."""
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1 or self.steps[-1] != FULL:
            raise InvalidArgument(f"rollout.steps: {self.steps} must rise from 1 or more to {FULL} (0.1 %)")
        if self.max_shadow_us <= 0 or self.live_step_us < 0:
            raise InvalidArgument("rollout: max_shadow must be longer than nothing and live_step not negative")
        if not 0 < self.margin < 1 or not 0 < self.max_error_rate <= 1 or self.max_latency_ratio <= 1:
            raise InvalidArgument("rollout: margin and max_error_rate lie between 0 and 1, max_latency_ratio is above 1")


@dataclass(frozen=True, slots=True)
class Spec:
    """What was asked for, defaults filled in. ``monitoring`` is the monitor's policy as JSON; serving only carries it."""

    name: str
    model: str
    version: str = ""
    time: TimeMode = TimeMode.ARRIVAL
    features: tuple[FeatureBinding, ...] = ()
    rollout: RolloutPolicy = field(default_factory=RolloutPolicy)
    monitoring: Mapping[str, Any] = field(default_factory=dict)
    allowed_lateness_us: int = 60_000_000
    label_horizon_us: int = 7 * DAY_US
    max_rows: int = MAX_ROWS
    training_set: str = ""
    strict_log: bool = False
    foreign: bool = False

    def __post_init__(self) -> None:
        """InvalidArgument when a name or a limit is not one."""
        if not _NAME.fullmatch(self.name):
            raise InvalidArgument(f"name {self.name!r}: lower-case letters, digits, dash and underscore, at most 63")
        if not self.model:
            raise InvalidArgument("model: a deployment needs one")
        if not 1 <= self.max_rows <= 1_000_000:
            raise InvalidArgument(f"max_rows {self.max_rows} must be between 1 and 1000000")
        given: list[str] = []
        for binding in self.features:
            if not binding.view or not binding.key_column or not binding.features:
                raise InvalidArgument("features: a binding names a view, a key_column and at least one feature")
            if len(binding.columns) != len(binding.features):
                raise InvalidArgument(
                    f"features of {binding.view}: {len(binding.columns)} columns for {len(binding.features)} features"
                )
            given += binding.columns
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise InvalidArgument(f"features: column {', '.join(twice)} comes from two bindings")
