"""What the trainer hears on Kafka."""

import uuid
from datetime import datetime

from perennial.errors import InvalidArgument
from perennial.runtime.events import Received, Refused
from perennial.v1 import events_pb2

from services.trainer import wire
from services.trainer.domain.job import Author, Job

GROUP = "trainer"


def retraining_of(event: Received, now: datetime) -> Job:
    """The job that answers a RetrainingRequested; the same event always makes the same one. Refused when it cannot be."""
    message = event.message
    assert isinstance(message, events_pb2.RetrainingRequested)
    if not message.decision_id or not message.model or not message.version:
        raise Refused("RetrainingRequested names no decision, model or version")
    try:
        data = wire.requested_from(message).checked()
    except InvalidArgument as error:
        raise Refused(f"RetrainingRequested {message.decision_id}: {error.message}") from error
    return Job(
        id=uuid.uuid5(uuid.NAMESPACE_OID, f"decision {message.decision_id}").hex, data=data, model=message.model,
        author=Author("service:monitor", "service", ("service",)), decision_id=message.decision_id,
        deployment=message.deployment, parent=message.version, correlation_id=event.correlation_id, causation_id=event.id,
        event_time=event.time, created_at=now,
    )  # fmt: skip
