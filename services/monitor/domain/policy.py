"""When is a retraining asked for, and why not?

A pure state machine. Wishes (a residual chart's alarm, an incident that outlived its quarantine, age, a follow-up, drift
without outcomes) meet what is under way, the cool-down and the budget. Every answer has a reason and its figures.
"""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from services.monitor.domain.deployments import Policy
from services.monitor.domain.time import DAY_US

MONTH_US = 30 * DAY_US
PENDING, RELEASED, SUCCEEDED, FAILED, DECLINED, SUPERSEDED = (
    "pending",
    "released",
    "succeeded",
    "failed",
    "declined",
    "superseded",
)
OPEN_STATES = (PENDING, RELEASED)
TRIGGERS = ("manual", "incident", "performance", "follow_up", "max_age", "drift")
"""In order of precedence."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that asks for a retraining."""

    trigger: str
    reason: str
    change_us: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
    units: tuple[tuple[str, float, int], ...] = ()
    """Columns whose unit changed: name, factor, since when."""


@dataclass(frozen=True, slots=True)
class State:
    """What the policy remembers of a deployment. ``open`` is the decision under way, until its rollout has ended."""

    began_us: int | None = None
    requests_us: tuple[int, ...] = ()
    open: str = ""
    follow_up_us: int | None = None
    follow_up_change_us: int | None = None
    follow_up_units: tuple[tuple[str, float, int], ...] = ()
    chart: dict[str, Any] | None = None
    alarm_since_us: int | None = None
    block_starts_us: tuple[int, ...] = ()
    """Starts of the blocks that the chart was given, newest last."""
    refused: str = ""
    """The last refusal, so that it is announced once."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "State":
        """The state of such values."""
        known = {f.name for f in fields(cls)}
        found = {name: value for name, value in values.items() if name in known}
        for name in ("requests_us", "block_starts_us"):
            found[name] = tuple(found.get(name, ()))
        found["follow_up_units"] = tuple((str(n), float(f), int(s)) for n, f, s in found.get("follow_up_units", ()))
        return cls(**found)

    @property
    def last_request_us(self) -> int | None:
        """When a retraining was last asked for."""
        return self.requests_us[-1] if self.requests_us else None

    def ended(self) -> "State":
        """The state after the rollout ended or the job failed: nothing is under way and the alarm is taken back."""
        return replace(self, open="", alarm_since_us=None, refused="")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The policy's answer. ``wish`` is None when nothing asked."""

    state: State
    requested: bool
    wish: Wish | None
    reason: str
    figures: dict[str, float]
    announce: bool = False
    """A refusal that is news."""


def wishes_of_time(state: State, policy: Policy, now_us: int) -> list[Wish]:
    """What age and the pending follow-up ask for."""
    found = []
    if state.follow_up_us is not None and now_us >= state.follow_up_us:
        found.append(Wish("follow_up", "half a training window of new rows since the last retraining",
                          state.follow_up_change_us, units=state.follow_up_units))  # fmt: skip
    since = state.last_request_us if state.last_request_us is not None else state.began_us
    if policy.max_age_us and since is not None and now_us - since >= policy.max_age_us:
        days = (now_us - since) / DAY_US
        found.append(Wish("max_age", f"no retraining was asked for in {days:.1f} days", figures={"age_days": days}))
    return found


def judged(state: State, policy: Policy, now_us: int, wishes: list[Wish], *, rollout_open: bool) -> Verdict:
    """The answer to the wishes of one moment; the most pressing one counts."""
    recent = tuple(us for us in state.requests_us if now_us - us < MONTH_US)
    figures = {"requests_30d": float(len(recent)), "budget": policy.budget}
    if state.last_request_us is not None:
        figures["days_since_request"] = (now_us - state.last_request_us) / DAY_US
    if not wishes:
        return Verdict(state, requested=False, wish=None, reason="nothing asks for a retraining", figures=figures)
    wish = min(wishes, key=lambda w: TRIGGERS.index(w.trigger))
    figures |= wish.figures
    refusal = _refusal(state, policy, now_us, wish, recent, rollout_open=rollout_open)
    if refusal:
        mark = f"{wish.trigger}:{refusal}"
        return Verdict(
            replace(state, refused=mark),
            requested=False,
            wish=wish,
            reason=refusal,
            figures=figures,
            announce=mark != state.refused,
        )
    after = replace(state, requests_us=(*recent, now_us), refused="", **_follow_up(policy, now_us, wish))
    return Verdict(after, requested=True, wish=wish, reason=wish.reason, figures=figures)


def _refusal(state: State, policy: Policy, now_us: int, wish: Wish, recent: tuple[int, ...], *, rollout_open: bool) -> str:
    """Why not; empty when nothing is against it. A person's wish waits for what is under way and for nothing else."""
    if state.open:
        return "pending"
    if rollout_open:
        return "rollout_open"
    if wish.trigger == "manual":
        return ""
    if not policy.retrain:
        return "retraining is off"
    if recent and now_us - recent[-1] < policy.cool_down_us and wish.trigger != "incident":
        return "cool_down"
    return "budget" if len(recent) >= policy.budget else ""


def _follow_up(policy: Policy, now_us: int, wish: Wish) -> dict[str, Any]:
    """One refit comes after half a training window of new rows; a newer retraining replaces it, and it brings no other."""
    if not policy.follow_up or wish.trigger == "follow_up":
        return {"follow_up_us": None, "follow_up_change_us": None, "follow_up_units": ()}
    return {
        "follow_up_us": now_us + policy.training_window_us // 2,
        "follow_up_change_us": wish.change_us,
        "follow_up_units": wish.units,
    }
