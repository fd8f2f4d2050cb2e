"""Which events does the registry publish, and how does it keep everybody's?"""

from perennial import topics
from perennial.runtime.events import Event, Received, Refused
from perennial.v1 import events_pb2 as pb

from services.registry import wire
from services.registry.domain.facts import AliasPointed, ApprovalGiven, Fact, Registered, StageMoved
from services.registry.store.history import History, KeptEvent

GROUP = "registry-events"
HISTORY = topics.CONTROL
"""Every topic the event history is made of, the registry's own too."""


def event_of(fact: Fact, aggregate_version: int) -> Event:
    """The event that tells others of a fact about a model; order is promised per model."""
    if isinstance(fact, Registered):
        return _registered(fact, aggregate_version)
    return _event(fact.model, _message(fact), _subject(fact), aggregate_version)


def _subject(fact: AliasPointed | StageMoved | ApprovalGiven) -> str:
    number = fact.after or fact.before if isinstance(fact, AliasPointed) else fact.number
    return f"{fact.model}/{number}"


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


def _registered(fact: Registered, aggregate_version: int) -> Event:
    version, lineage = fact.version, fact.version.lineage
    message = pb.ModelVersionRegistered(
        model=version.model, version=str(version.number), artifact_digest=version.artifact_digest, job_id=lineage.job_id,
        decision_id=lineage.decision_id, deployment=lineage.deployment, signature_digest=version.signature.digest,
        parent=lineage.parent, approval_required=version.approval_required,
    )  # fmt: skip
    chain = (lineage.correlation_id, lineage.causation_id)
    return _event(version.model, message, f"{version.model}/{version.number}", aggregate_version, chain=chain)


def _event(
    model: str,
    message: pb.AliasMoved | pb.StageChanged | pb.ApprovalDecided | pb.ModelVersionRegistered,
    subject: str,
    aggregate_version: int,
    chain: tuple[str, str] = ("", ""),
) -> Event:
    return Event(
        topics.MODELS, model, message, subject=subject, aggregate=f"model:{model}", aggregate_version=aggregate_version,
        correlation_id=chain[0], causation_id=chain[1],
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
