"""Which events does the registry publish, and how does it keep everybody's?"""

from perennial import topics
from perennial.runtime.events import Event, Received, Refused
from perennial.v1 import events_pb2 as pb

from services.registry import wire
from services.registry.domain.facts import AliasPointed, ApprovalGiven, Chain, Fact, Registered, StageMoved
from services.registry.domain.number import Number
from services.registry.store.history import History, KeptEvent

GROUP = "registry-events"
HISTORY = topics.CONTROL
"""Every topic the event history is made of, the registry's own too."""


def event_of(fact: Fact, aggregate_version: int, chain: Chain) -> Event:
    """The event that tells others of a fact about a model; order is promised per model."""
    model = fact.version.model if isinstance(fact, Registered) else fact.model
    return Event(
        topics.MODELS, model, _registered(fact) if isinstance(fact, Registered) else _message(fact),
        subject=f"{model}/{_number(fact)}", time=chain.event_time, aggregate=f"model:{model}",
        aggregate_version=aggregate_version, correlation_id=chain.correlation_id, causation_id=chain.causation_id,
    )  # fmt: skip


def _number(fact: Fact) -> Number | None:
    if isinstance(fact, Registered):
        return fact.version.number
    return fact.after or fact.before if isinstance(fact, AliasPointed) else fact.number


def _message(fact: AliasPointed | StageMoved | ApprovalGiven) -> pb.AliasMoved | pb.StageChanged | pb.ApprovalDecided:
    actor = wire.actor_to(fact.actor)
    if isinstance(fact, AliasPointed):
        return pb.AliasMoved(
            model=fact.model, alias=fact.alias, from_version=str(fact.before or ""), to_version=str(fact.after or ""),
            actor=actor, request_id=fact.request_id,
        )  # fmt: skip
    number = str(fact.number)
    if isinstance(fact, StageMoved):
        return pb.StageChanged(model=fact.model, version=number, from_stage=fact.before, to_stage=fact.after, actor=actor)
    return pb.ApprovalDecided(model=fact.model, version=number, approved=fact.approved, actor=actor, comment=fact.comment)


def _registered(fact: Registered) -> pb.ModelVersionRegistered:
    version, lineage = fact.version, fact.version.lineage
    return pb.ModelVersionRegistered(
        model=version.model, version=str(version.number), artifact_digest=version.artifact_digest, job_id=lineage.job_id,
        decision_id=lineage.decision_id, deployment=lineage.deployment, signature_digest=version.signature.digest,
        parent=lineage.parent, approval_required=version.approval_required,
    )  # fmt: skip


class EventHistory:
    """Keeps every control event once."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def on_event(self, event: Received) -> None:
        """Store the event; a repeat changes nothing. Refused when an id or a name is too long to be one."""
        kept = KeptEvent(
            id=event.id, type=event.type, source=event.source, subject=event.subject, at=event.time,
            correlation_id=event.correlation_id, causation_id=event.causation_id, topic=event.topic,
            data=wire.data_of(event.message),
        )  # fmt: skip
        if any("\x00" in text or len(text) > 1000 for text in kept.texts):
            raise Refused("an id, type, source or subject is longer than 1000 characters or holds a NUL")
        await self._history.keep(kept)
