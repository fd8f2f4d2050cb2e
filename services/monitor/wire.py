"""Messages to domain and back. Pure; defaults of the specs are filled in here."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from perennial.clock import from_us
from perennial.v1 import common_pb2, events_pb2, monitor_pb2, serving_pb2

from services.monitor.domain.deployments import Deployment, Policy, Rollout
from services.monitor.domain.time import duration_us

_COMPARING = (serving_pb2.ROLLOUT_STATE_SHADOW, serving_pb2.ROLLOUT_STATE_LIVE)
_OPEN = (serving_pb2.ROLLOUT_STATE_PENDING, *_COMPARING)


def stamp(us: int | None) -> Timestamp | None:
    """The wire's form of an instant."""
    if us is None:
        return None
    return Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1000)


def us_from(message: Timestamp) -> int:
    """An instant in microseconds."""
    return message.seconds * 1_000_000 + message.nanos // 1000


def time_of(us: int) -> datetime:
    """An instant as a datetime."""
    return from_us(us)


def _span(message: Any, name: str, default: int) -> int:
    """A duration of the message in microseconds, or the default when it is absent."""
    if not message.HasField(name):
        return default
    given: Duration = getattr(message, name)
    return duration_us(given.ToTimedelta())


def policy_from(message: serving_pb2.MonitoringPolicy) -> Policy:
    """The monitoring policy with its defaults."""
    d = Policy()
    return Policy(
        window_us=_span(message, "window", d.window_us) or d.window_us,
        max_window_us=_span(message, "max_window", d.max_window_us) or d.max_window_us,
        min_rows=message.min_rows or d.min_rows,
        pane_us=_span(message, "pane", d.pane_us) or d.pane_us,
        block_us=_span(message, "block", d.block_us) or d.block_us,
        time_zone=message.time_zone or d.time_zone,
        label_horizon_us=_span(message, "label_horizon", d.label_horizon_us) or d.label_horizon_us,
        retrain=message.retrain,
        budget=message.budget or d.budget,
        cool_down_us=_span(message, "cool_down", d.cool_down_us),
        max_age_us=_span(message, "max_age", d.max_age_us),
        training_window_us=_span(message, "training_window", d.training_window_us) or d.training_window_us,
        min_outcomes=message.min_outcomes or d.min_outcomes,
        quarantine_us=_span(message, "quarantine", d.quarantine_us),
        cusum_limit=message.cusum_limit or d.cusum_limit,
        cusum_slack=message.cusum_slack or d.cusum_slack,
        outcomes=message.outcomes,
        tests=tuple(message.tests),
        false_alarms=message.false_alarms or d.false_alarms,
        lateness_us=_span(message, "allowed_lateness", d.lateness_us),
        follow_up=not message.no_follow_up,
    )


def deployment_from(message: serving_pb2.Deployment) -> Deployment:
    """A deployment as serving describes it."""
    spec, signature = message.spec, message.signature
    variants = list(message.variants)
    champion = next((v.version for v in variants if v.name == "champion"), variants[0].version if variants else "")
    artifacts = {champion: message.champion_artifact} if champion and message.champion_artifact else {}
    challenger = next((v.version for v in variants if v.name != "champion"), message.rollout.challenger)
    if challenger and message.challenger_artifact:
        artifacts[challenger] = message.challenger_artifact
    return Deployment(
        name=spec.name,
        model=spec.model,
        event_time=spec.time == serving_pb2.TIME_MODE_EVENT,
        foreign=spec.foreign,
        retired=message.retired,
        classes=tuple(signature.classes),
        number_columns=tuple(c.name for c in signature.columns if c.type == common_pb2.COLUMN_TYPE_NUMBER),
        champion=champion,
        artifacts=artifacts,
        training_set=spec.training_set,
        auto_rollout=spec.rollout.auto,
        rollout=_rollout_from(message.rollout) if message.HasField("rollout") else None,
        policy=policy_from(spec.monitoring),
        created_us=us_from(message.created_at),
    )


def with_artifacts(new: Deployment, old: Deployment) -> Deployment:
    """The new description, which still knows the artifacts of versions that served before."""
    return replace(new, artifacts={**old.artifacts, **new.artifacts})


def _rollout_from(message: serving_pb2.Rollout) -> Rollout | None:
    if message.state not in _OPEN:
        return None
    return Rollout(
        message.rollout_id, message.champion, message.challenger, us_from(message.started_at), message.correlation_id,
        message.state in _COMPARING,
    )  # fmt: skip


def block_to(row: Any, figures: dict[str, float]) -> monitor_pb2.PerformanceBlock:
    """A performance block."""
    return monitor_pb2.PerformanceBlock(
        version=row["version"], variant=row["variant"], start=stamp(row["start_us"]), end=stamp(row["end_us"]),
        count=row["count"],
        figures=figures, closed=row["closed"], chart=row["chart"],
    )  # fmt: skip


def decision_to(row: Any) -> monitor_pb2.Decision:
    """A decision."""
    return monitor_pb2.Decision(
        decision_id=row["decision_id"], time=stamp(row["time_us"]), requested=row["requested"], trigger=row["trigger"],
        reason=row["reason"], figures=row["figures"], state=row["state"], version=row["version"],
    )  # fmt: skip


def column_to(values: dict[str, Any]) -> events_pb2.ColumnDrift:
    """One column's comparison."""
    numbers: dict[str, Any] = {k: float("nan") if v is None else v for k, v in values.items()}
    return events_pb2.ColumnDrift(**numbers)


def report_to(row: Any) -> monitor_pb2.DriftReport:
    """A drift report."""
    return monitor_pb2.DriftReport(
        report_id=row["report_id"], version=row["version"], variant=row["variant"], start=stamp(row["start_us"]),
        end=stamp(row["end_us"]),
        rows=row["rows"], late=row["late"], columns=[column_to(c) for c in row["columns"]], score=row["score"],
        severity=row["severity"], recommendations=row["recommendations"],
    )  # fmt: skip


def incident_to(row: Any) -> events_pb2.QualityIncident:
    """An incident."""
    return events_pb2.QualityIncident(
        incident_id=row["incident_id"], deployment=row["deployment"], version=row["version"], column=row["column_name"],
        kind=row["kind"], factor=row["factor"], since=stamp(row["since_us"]), state=row["state"], detail=row["detail"],
    )  # fmt: skip


def snapshot_to(row: Any) -> events_pb2.LogSnapshot:
    """A cut of the prediction log."""
    return events_pb2.LogSnapshot(
        snapshot_id=row["snapshot_id"], manifest_key=row["manifest_key"], manifest_sha256=row["manifest_sha256"],
        rows=row["rows"], outcomes=row["outcomes"],
    )  # fmt: skip


def ledger_line_to(line: dict[str, Any]) -> monitor_pb2.LedgerLine:
    """A line of the ledger."""
    names = ("version", "variant", "counted", "late", "dead_lettered", "dropped", "missing", "repeats", "outcomes", "shadow")
    return monitor_pb2.LedgerLine(**{name: line[name] for name in names})
