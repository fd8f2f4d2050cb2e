"""What does the monitor know of a deployment?

The part of serving's state that folding, judging and the policy need, with the defaults filled in.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from services.monitor.domain.time import DAY_US, HOUR_US, SECOND_US

CHAMPION = "champion"
SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Policy:
    """What somebody asked of the monitor for one deployment; times in microseconds."""

    window_us: int = DAY_US
    max_window_us: int = 7 * DAY_US
    min_rows: int = 500
    pane_us: int = HOUR_US
    block_us: int = DAY_US
    time_zone: str = "UTC"
    label_horizon_us: int = 7 * DAY_US
    retrain: bool = False
    budget: float = 4.0
    cool_down_us: int = 2 * DAY_US
    max_age_us: int = 28 * DAY_US
    training_window_us: int = 56 * DAY_US
    min_outcomes: int = 50
    quarantine_us: int = 6 * HOUR_US
    cusum_limit: float = 5.0
    cusum_slack: float = 0.5
    outcomes: bool = False
    tests: tuple[str, ...] = ()
    false_alarms: float = 1.0
    lateness_us: int = 60 * SECOND_US
    follow_up: bool = True


@dataclass(frozen=True, slots=True)
class Rollout:
    """The open rollout of a deployment."""

    rollout_id: str
    champion: str
    challenger: str
    started_us: int
    correlation_id: str = ""
    comparing: bool = True
    """In shadow or live, so figures are wanted; a pending one waits."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as serving last described it."""

    name: str
    model: str = ""
    event_time: bool = False
    foreign: bool = False
    retired: bool = False
    classes: tuple[str, ...] = ()
    number_columns: tuple[str, ...] = ()
    champion: str = ""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Object key prefix of each version's artifact."""
    training_set: str = ""
    auto_rollout: bool = False
    rollout: Rollout | None = None
    policy: Policy = field(default_factory=Policy)
    created_us: int = 0

    @property
    def width(self) -> int:
        """How many numbers a prediction has: one, or a probability a class."""
        return len(self.classes) or 1

    def to_json(self) -> dict[str, Any]:
        """The facts as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Deployment":
        """The deployment of such values; what an older program wrote lacks, has its default."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in facts.items() if name in known}
        values["policy"] = Policy(**{**values.get("policy", {}), "tests": tuple(values.get("policy", {}).get("tests", ()))})
        values["rollout"] = Rollout(**values["rollout"]) if values.get("rollout") else None
        for name in ("classes", "number_columns"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)
