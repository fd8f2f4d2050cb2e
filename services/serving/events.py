"""Which facts does serving publish?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from perennial.clock import from_us
from perennial.runtime.events import Event
from perennial.topics import DEPLOYMENT_STATE, DEPLOYMENTS
from perennial.v1.events_pb2 import DeploymentStateChanged, Promoted, RolledBack, RolloutDeclined, RolloutStepped

from services.serving import wire
from services.serving.domain.deployment import Deployment
from services.serving.domain.rollout import Rollout, RolloutState

_FACTS: dict[RolloutState, type[Message]] = {
    RolloutState.PROMOTED: Promoted, RolloutState.ROLLED_BACK: RolledBack, RolloutState.DECLINED: RolloutDeclined,
}  # fmt: skip


def of(deployment: Deployment, moved: Sequence[Rollout]) -> tuple[Deployment, list[Event]]:
    """The facts of a change, the whole state last, and the deployment whose chains go on from them."""
    found = [_moved(deployment, rollout) for rollout in moved]
    last = found[-1] if found else None
    chains = {rollout.rollout_id: event.id for rollout, event in zip(moved, found, strict=True)}
    after = replace(deployment, rollout=_linked(deployment.rollout, chains), pending=_linked(deployment.pending, chains))
    state = Event(
        DEPLOYMENT_STATE, deployment.name, DeploymentStateChanged(deployment=wire.deployment_to(after)), subject=deployment.name,
        time=last.time if last else None, aggregate=_aggregate(deployment), aggregate_version=deployment.state_version,
        correlation_id=last.correlation_id if last else "", causation_id=last.id if last else "",
    )  # fmt: skip
    return after, [*found, state]


def _moved(deployment: Deployment, rollout: Rollout) -> Event:
    """A rollout moved; the event's id follows from what happened."""
    message: Any = _FACTS.get(rollout.state, RolloutStepped)
    name = f"{rollout.rollout_id} {rollout.state} {rollout.weight}"
    return Event(
        DEPLOYMENTS, rollout.deployment, message(rollout=wire.rollout_to(rollout)),
        subject=f"{rollout.deployment} {rollout.challenger}", time=from_us(rollout.stepped_us),
        id=hashlib.sha256(name.encode()).hexdigest()[:32], correlation_id=rollout.correlation_id,
        causation_id=rollout.causation_id, aggregate=_aggregate(deployment), aggregate_version=deployment.state_version,
    )  # fmt: skip


def _linked(rollout: Rollout | None, chains: dict[str, str]) -> Rollout | None:
    if rollout is None or rollout.rollout_id not in chains:
        return rollout
    newest = chains[rollout.rollout_id]
    return replace(rollout, causation_id=newest, correlation_id=rollout.correlation_id or newest)


def _aggregate(deployment: Deployment) -> str:
    return f"deployment:{deployment.name}"
