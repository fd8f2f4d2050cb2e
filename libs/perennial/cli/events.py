"""``perennial events``: what happened, and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perennial.cli.output import EnvOption, JsonOption, LimitOption, platform, show, when


def events(
    chain: Annotated[str, typer.Option(help="Print the whole chain that this event is in")] = "",
    kind: Annotated[str, typer.Option("--type", help="Only of this type, e.g. RetrainingRequested")] = "",
    subject: Annotated[str, typer.Option(help="Only about this deployment, model or job")] = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """The newest events of the platform, or one causal chain from its first cause to its last effect."""
    with platform(env_file) as found:
        known = found.models.chain(chain) if chain else found.models.events(kind=kind, subject=subject, limit=limit)
    rows = [_event(event) for event in known]
    show(rows, as_json=as_json, columns=("time", "type", "source", "subject", "id", "correlation"), empty="no events")


def _event(event: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return {
        "time": when(event.time),
        "recorded": when(event.recorded_at),
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "id": event.id,
        "correlation": event.correlation_id,
        "causation": event.causation_id,
        "topic": event.topic,
        "data": MessageToDict(event.data),
    }
