"""What the trainer hears and says on Kafka."""

import uuid
from datetime import datetime

from perennial import topics
from perennial.runtime.events import Event, Received, Refused
from perennial.errors import InvalidArgument
from perennial.v1 import events_pb2
from services.trainer import wire
from services.trainer.domain.job import Author, Job

GROUP = "trainer"


def event_id(job_id: str, change: int) -> str:
    """The id of a job's event: known before it is published, so that a registration can name its cause."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"job {job_id} {change}").hex


def state_changed(job: Job) -> Event:
    """The event of a job's new state, in its causal chain."""
    message = events_pb2.JobStateChanged(
        job_id=job.id, state=str(job.state), model=job.model, decision_id=job.decision_id, version=job.version,
        reason=job.reason, metrics=job.metrics,
    )  # fmt: skip
    return Event(
        topics.TRAINING, job.id, message, subject=f"job/{job.id}", time=job.event_time, aggregate=f"job/{job.id}",
        aggregate_version=job.changes, id=event_id(job.id, job.changes), correlation_id=job.correlation_id, causation_id=job.causation_id,
    )  # fmt: skip


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
