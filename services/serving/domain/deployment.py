"""What is a deployment, and what may happen to it?

Every change is a pure function from a deployment to a ``Change``: the deployment after it and the rollouts that moved, in
order. The store writes both and their events in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from perennial.errors import AlreadyExists, FailedPrecondition
from perennial.stats.sequential import Decision, PairedBlock, ShadowPolicy, decide

from services.serving.domain.rollout import Build, Rollout, RolloutState
from services.serving.domain.spec import FULL, RolloutPolicy, Spec

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True, slots=True)
class Variant:
    """One version at work; ``weight`` in 0.1 %."""

    name: str
    version: str
    weight: int
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the monitor knows of a challenger: closed blocks up to ``as_of_us``."""

    rollout_id: str
    as_of_us: int
    blocks: tuple[PairedBlock, ...]
    day_spread: float
    shadow_rows: int
    shadow_failures: int

    @property
    def judged(self) -> bool:
        """Whether any outcome is known."""
        return any(block.count for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at work under a name."""

    spec: Spec
    champion: Build
    created_us: int
    follows_alias: bool = True
    rollout: Rollout | None = None
    """In shadow or live."""
    pending: Rollout | None = None
    watermark_us: int | None = None
    state_version: int = 1
    retired: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The versions at work, the champion first."""
        rollout = self.rollout
        if rollout is None:
            return (Variant(CHAMPION, self.champion.version, FULL),)
        shadow = rollout.state is RolloutState.SHADOW
        return (
            Variant(CHAMPION, self.champion.version, FULL - rollout.weight),
            Variant(CHALLENGER, rollout.challenger, rollout.weight, shadow),
        )

    def working(self) -> Deployment:
        """Itself; FailedPrecondition when it is retired."""
        if self.retired:
            raise FailedPrecondition(f"deployment {self.name} is retired")
        return self


@dataclass(frozen=True, slots=True)
class Change:
    """A deployment after something happened, and the rollouts that moved on the way."""

    deployment: Deployment
    moved: tuple[Rollout, ...] = ()

    def then(self, other: Change) -> Change:
        """Both, one after the other."""
        return Change(other.deployment, (*self.moved, *other.moved))


def registered(deployment: Deployment, rollout: Rollout, now_us: int) -> Change:
    """A new version waits; one that waited before gives way."""
    waiting = deployment.working().pending
    if rollout.challenger == deployment.champion.version:
        raise AlreadyExists(f"version {rollout.challenger} is the champion of {deployment.name} already")
    moved: tuple[Rollout, ...] = (rollout,)
    if waiting is not None:
        gone = waiting.ended(RolloutState.ABORTED, now_us, f"version {rollout.challenger} came before it began")
        moved = (gone, rollout)
    return begun(replace(deployment, pending=rollout), now_us, moved)


def begun(deployment: Deployment, now_us: int, moved: tuple[Rollout, ...] = ()) -> Change:
    """What waits goes into shadow if it may and nothing else is at work."""
    waiting = deployment.pending
    if waiting is None or not waiting.approved or deployment.rollout is not None:
        return Change(deployment, moved)
    rollout = waiting.shadowed(now_us, deployment.champion.version)
    moved = tuple(one for one in moved if one.rollout_id != rollout.rollout_id)
    return Change(replace(deployment, rollout=rollout, pending=None), (*moved, rollout))


def approved(deployment: Deployment, version: str, now_us: int, *, yes: bool) -> Change:
    """A person decided about the version that waits."""
    waiting = deployment.pending
    if waiting is None or waiting.challenger != version:
        return Change(deployment)
    if not yes:
        gone = waiting.ended(RolloutState.DECLINED, now_us, "the approval was refused")
        return Change(replace(deployment, pending=None), (gone,))
    return begun(replace(deployment, pending=replace(waiting, approved=True)), now_us)


def judged(deployment: Deployment, comparison: Comparison, now_us: int) -> Change:
    """Act on what the monitor knows; nothing unless its rollout is in shadow."""
    rollout = deployment.rollout
    if rollout is None or rollout.state is not RolloutState.SHADOW or rollout.rollout_id != comparison.rollout_id:
        return Change(deployment)
    policy = deployment.spec.rollout
    failures, rows = comparison.shadow_failures, comparison.shadow_rows
    if failures > policy.max_error_rate * rows:
        return _over(deployment, RolloutState.DECLINED, now_us, f"{failures} of {rows} shadow answers failed")
    elapsed = comparison.as_of_us - rollout.started_us
    if not comparison.judged:
        return _unjudged(deployment, elapsed, now_us)
    decision = decide(comparison.blocks, _policy(deployment, comparison), elapsed_us=elapsed)
    if decision.action == "promote":
        live = rollout.live(policy.steps[0], now_us, decision.reason, gain=_gain(decision))
        return Change(replace(deployment, rollout=live), (live,))
    if decision.action == "decline":
        return _over(deployment, RolloutState.DECLINED, now_us, decision.reason, gain=_gain(decision))
    return Change(deployment)


def _unjudged(deployment: Deployment, elapsed_us: int, now_us: int) -> Change:
    """No outcome came: wait up to the label horizon, then as the deployment says."""
    policy, rollout = deployment.spec.rollout, deployment.rollout
    assert rollout is not None
    if elapsed_us < max(deployment.spec.label_horizon_us, policy.max_shadow_us):
        return Change(deployment)
    if policy.decline_unjudged:
        return _over(deployment, RolloutState.DECLINED, now_us, "no outcome came within the label horizon")
    live = rollout.live(policy.steps[0], now_us, "no outcome came within the label horizon; by guardrails alone", unjudged=True)
    return Change(replace(deployment, rollout=live), (live,))


def stepped(deployment: Deployment, now_us: int, calls: int | None = None) -> Change:
    """The next share of traffic, when the current one had its time (and its calls); nothing after the last."""
    rollout, policy = deployment.rollout, deployment.spec.rollout
    if rollout is None or not due(deployment, now_us) or (calls is not None and calls < policy.min_calls):
        return Change(deployment)
    later = [weight for weight in policy.steps if weight > rollout.weight]
    if not later:
        return Change(deployment)
    share = f"{later[0] / 10:g} % of the traffic"
    live = rollout.live(later[0], now_us, f"{rollout.weight / 10:g} % went well; now {share}")
    return Change(replace(deployment, rollout=live), (live,))


def due(deployment: Deployment, now_us: int) -> bool:
    """Whether the live step has had its time."""
    rollout = deployment.rollout
    if rollout is None or rollout.state is not RolloutState.LIVE:
        return False
    return now_us - rollout.stepped_us >= deployment.spec.rollout.live_step_us


def ready(deployment: Deployment, now_us: int) -> bool:
    """Whether only the promotion is left to do."""
    rollout = deployment.rollout
    return due(deployment, now_us) and rollout is not None and rollout.weight >= deployment.spec.rollout.steps[-1]


def promoted(deployment: Deployment, rollout_id: str, now_us: int) -> Change:
    """The challenger is the champion; what waits may begin."""
    rollout = deployment.rollout
    if rollout is None or rollout.rollout_id != rollout_id:
        return Change(deployment)
    end = rollout.ended(RolloutState.PROMOTED, now_us, f"version {rollout.challenger} is the champion")
    return begun(replace(deployment, champion=rollout.build, rollout=None), now_us, (end,))


def cut(deployment: Deployment, rollout_id: str, now_us: int, reason: str) -> Change:
    """A guardrail took the challenger out."""
    rollout = deployment.rollout
    if rollout is None or rollout.rollout_id != rollout_id:
        return Change(deployment)
    state = RolloutState.ROLLED_BACK if rollout.state is RolloutState.LIVE else RolloutState.DECLINED
    return _over(deployment, state, now_us, reason)


def aborted(deployment: Deployment, rollout_id: str, now_us: int, reason: str) -> Change:
    """Somebody ended a rollout; FailedPrecondition when it is not open."""
    for rollout in (deployment.rollout, deployment.pending):
        if rollout is not None and rollout.rollout_id == rollout_id:
            end = rollout.ended(RolloutState.ABORTED, now_us, reason)
            if rollout is deployment.pending:
                return Change(replace(deployment, pending=None), (end,))
            return begun(replace(deployment, rollout=None), now_us, (end,))
    raise FailedPrecondition(f"rollout {rollout_id} is not open")


def converged(deployment: Deployment, build: Build, now_us: int) -> Change:
    """The alias names another version: an open rollout is over, and that version is the champion."""
    if deployment.retired or not deployment.follows_alias or build.version == deployment.champion.version:
        return Change(deployment)
    rollout = deployment.rollout
    moved: tuple[Rollout, ...] = ()
    if rollout is not None:
        reason = f"the alias champion was moved to version {build.version}"
        moved = (rollout.ended(RolloutState.ABORTED, now_us, reason),)
    return begun(replace(deployment, champion=build, rollout=None), now_us, moved)


def governed(deployment: Deployment, *, rollout: RolloutPolicy | None, **monitoring: Any) -> Change:
    """Other policies from now on; what is not given stays."""
    policies = {**monitoring, **({"rollout": rollout} if rollout else {})}
    return Change(replace(deployment.working(), spec=replace(deployment.spec, **policies)))


def retired(deployment: Deployment, now_us: int) -> Change:
    """Over; open rollouts with it."""
    moved = tuple(
        rollout.ended(RolloutState.ABORTED, now_us, "the deployment was retired")
        for rollout in (deployment.rollout, deployment.pending)
        if rollout is not None
    )
    return Change(replace(deployment.working(), rollout=None, pending=None, retired=True), moved)


def _over(deployment: Deployment, state: RolloutState, now_us: int, reason: str, *, gain: float | None = None) -> Change:
    rollout = deployment.rollout
    assert rollout is not None
    return begun(replace(deployment, rollout=None), now_us, (rollout.ended(state, now_us, reason, gain=gain),))


def _policy(deployment: Deployment, comparison: Comparison) -> ShadowPolicy:
    policy = deployment.spec.rollout
    usual = ShadowPolicy(margin=policy.margin, max_shadow_us=policy.max_shadow_us)
    return replace(usual, day_spread=comparison.day_spread) if comparison.day_spread > 0 else usual


def _gain(decision: Decision) -> float:
    """The champion's loss minus the challenger's, as a share (statistics count a worsening as positive)."""
    return -decision.figures.get("gain", 0.0)
