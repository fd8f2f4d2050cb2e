"""How do deployments and rollouts look on the wire?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.protobuf import duration_pb2, json_format, timestamp_pb2
from perennial.clock import from_us, to_us
from perennial.errors import InvalidArgument
from perennial.package import Signature
from perennial.stats.sequential import PairedBlock
from perennial.v1 import serving_pb2 as pb
from perennial.v1.events_pb2 import VariantsCompared
from perennial.v1.registry_pb2 import ModelVersion

from services.serving.domain.deployment import Comparison, Deployment
from services.serving.domain.rollout import Build, Rollout, RolloutState
from services.serving.domain.spec import DAY_US, HOUR_US, MAX_ROWS, FeatureBinding, RolloutPolicy, Spec, TimeMode

_SECOND_US = 1_000_000
_MONITORING: dict[str, Any] = {
    "window": DAY_US, "max_window": 7 * DAY_US, "min_rows": 500, "pane": HOUR_US, "block": DAY_US, "time_zone": "UTC",
    "label_horizon": 7 * DAY_US, "budget": 4.0, "cool_down": 2 * DAY_US, "max_age": 28 * DAY_US,
    "training_window": 56 * DAY_US, "min_outcomes": 50, "quarantine": 6 * HOUR_US, "cusum_limit": 5.0, "cusum_slack": 0.5,
    "tests": ["ks", "chi_square"], "false_alarms": 1.0, "allowed_lateness": 60 * _SECOND_US,
}  # fmt: skip
_DURATIONS = {name for name, value in _MONITORING.items() if isinstance(value, int) and value > 10_000}
_STATES = {state: getattr(pb, f"ROLLOUT_STATE_{state.name}") for state in RolloutState}
_TIMES = {TimeMode.ARRIVAL: pb.TIME_MODE_ARRIVAL, TimeMode.EVENT: pb.TIME_MODE_EVENT}


def timestamp(us: int) -> timestamp_pb2.Timestamp:
    """The wire's time."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(from_us(us))
    return stamp


def us_from(stamp: timestamp_pb2.Timestamp, field: str) -> int:
    """Microseconds of a time; InvalidArgument when it is none."""
    try:
        return to_us(stamp.ToDatetime(tzinfo=from_us(0).tzinfo))
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f"{field}: {error}") from None


def duration_us(duration: duration_pb2.Duration) -> int:
    """Microseconds of a duration."""
    return duration.seconds * _SECOND_US + duration.nanos // 1000


def duration(us: int) -> duration_pb2.Duration:
    """The wire's duration."""
    made = duration_pb2.Duration()
    made.FromTimedelta(timedelta(microseconds=us))
    return made


def monitoring_from(policy: pb.MonitoringPolicy) -> pb.MonitoringPolicy:
    """The policy with its defaults filled in; InvalidArgument when a length is negative or zero where it cannot be."""
    filled = pb.MonitoringPolicy()
    filled.CopyFrom(policy)
    for name, value in _MONITORING.items():
        if name in _DURATIONS:
            if not policy.HasField(name):  # type: ignore[arg-type] # one of its fields
                getattr(filled, name).CopyFrom(duration(value))
            length = duration_us(getattr(filled, name))
            if length < 0 or (length == 0 and name not in ("max_age", "cool_down", "quarantine", "allowed_lateness")):
                raise InvalidArgument(f"monitoring.{name} must be longer than nothing")
        elif name == "tests":
            if not policy.tests:
                filled.tests.extend(value)
        elif not getattr(policy, name):
            setattr(filled, name, value)
    if filled.budget < 0 or filled.cusum_limit < 0 or filled.cusum_slack < 0 or filled.false_alarms < 0:
        raise InvalidArgument("monitoring: budget, cusum_limit, cusum_slack and false_alarms are not negative")
    return filled


def rollout_policy_from(policy: pb.RolloutPolicy) -> RolloutPolicy:
    """The policy with its defaults filled in."""
    default = RolloutPolicy()
    return RolloutPolicy(
        auto=policy.auto,
        max_shadow_us=duration_us(policy.max_shadow) if policy.HasField("max_shadow") else default.max_shadow_us,
        live_step_us=duration_us(policy.live_step) if policy.HasField("live_step") else default.live_step_us,
        steps=tuple(policy.steps) or default.steps,
        margin=policy.margin or default.margin,
        decline_unjudged=policy.decline_unjudged,
        max_error_rate=policy.max_error_rate or default.max_error_rate,
        max_latency_ratio=policy.max_latency_ratio or default.max_latency_ratio,
        min_calls=policy.min_calls,
    )


def spec_from(message: pb.DeploymentSpec) -> Spec:
    """What was asked for, defaults filled in; InvalidArgument when it cannot be."""
    monitoring = monitoring_from(message.monitoring)
    features = tuple(
        FeatureBinding(b.view, b.key_column, tuple(b.features), tuple(b.columns) or tuple(b.features)) for b in message.features
    )
    return Spec(
        name=message.name, model=message.model, version=message.version, features=features,
        time=TimeMode.EVENT if message.time == pb.TIME_MODE_EVENT else TimeMode.ARRIVAL,
        rollout=rollout_policy_from(message.rollout), training_set=message.training_set,
        max_rows=message.max_rows or MAX_ROWS,
        strict_log=message.strict_log, foreign=message.foreign, **carried(monitoring),
    )  # fmt: skip


def carried(monitoring: pb.MonitoringPolicy) -> dict[str, Any]:
    """The fields of a spec that come from the monitor's policy."""
    return {
        "monitoring": json_format.MessageToDict(monitoring, preserving_proto_field_name=True),
        "allowed_lateness_us": duration_us(monitoring.allowed_lateness),
        "label_horizon_us": duration_us(monitoring.label_horizon),
    }


def spec_to(spec: Spec) -> pb.DeploymentSpec:
    """The wire's spec."""
    rollout = spec.rollout
    return pb.DeploymentSpec(
        name=spec.name, model=spec.model, version=spec.version, time=_TIMES[spec.time],
        features=[
            pb.FeatureBinding(view=b.view, key_column=b.key_column, features=b.features, columns=b.columns) for b in spec.features
        ],
        rollout=pb.RolloutPolicy(
            auto=rollout.auto, max_shadow=duration(rollout.max_shadow_us), live_step=duration(rollout.live_step_us),
            steps=rollout.steps, margin=rollout.margin, decline_unjudged=rollout.decline_unjudged,
            max_error_rate=rollout.max_error_rate, max_latency_ratio=rollout.max_latency_ratio, min_calls=rollout.min_calls,
        ),
        monitoring=json_format.ParseDict(dict(spec.monitoring), pb.MonitoringPolicy()),
        max_rows=spec.max_rows, training_set=spec.training_set, strict_log=spec.strict_log, foreign=spec.foreign,
    )  # fmt: skip


def rollout_to(rollout: Rollout) -> pb.Rollout:
    """The wire's rollout."""
    message = pb.Rollout(
        rollout_id=rollout.rollout_id, deployment=rollout.deployment, model=rollout.model, champion=rollout.champion,
        challenger=rollout.challenger, state=_STATES[rollout.state], weight=rollout.weight, reason=rollout.reason,
        unjudged=rollout.unjudged, correlation_id=rollout.correlation_id, gain=rollout.gain, decision_id=rollout.decision_id,
        started_at=timestamp(rollout.started_us), stepped_at=timestamp(rollout.stepped_us),
    )  # fmt: skip
    if rollout.state.ended:
        message.ended_at.CopyFrom(timestamp(rollout.ended_us))
    return message


def deployment_to(deployment: Deployment) -> pb.Deployment:
    """The wire's deployment."""
    rollout = deployment.rollout or deployment.pending
    message = pb.Deployment(
        spec=spec_to(deployment.spec),
        variants=[pb.Variant(name=v.name, version=v.version, weight=v.weight, shadow=v.shadow) for v in deployment.variants],
        rollout=rollout_to(rollout) if rollout else None,
        state_version=deployment.state_version,
        signature=Signature.from_json(deployment.champion.signature).to_proto(),
        created_at=timestamp(deployment.created_us),
        retired=deployment.retired,
        champion_artifact=deployment.champion.artifact_prefix,
        challenger_artifact=deployment.rollout.build.artifact_prefix if deployment.rollout else "",
    )
    if deployment.watermark_us is not None:
        message.watermark.CopyFrom(timestamp(deployment.watermark_us))
    return message


def build_from(version: ModelVersion) -> Build:
    """A registered version as serving needs it."""
    signature: Mapping[str, Any] = Signature.from_proto(version.signature).to_json()
    return Build(version.version, version.artifact_digest, version.artifact_prefix, dict(signature))


def comparison_from(message: VariantsCompared) -> Comparison:
    """What the monitor knows."""
    blocks = tuple(
        PairedBlock(
            us_from(b.start, "start"), us_from(b.end, "end"), b.count, b.champion_loss, b.challenger_loss, b.squared_difference
        )
        for b in message.blocks
    )
    return Comparison(
        message.rollout, us_from(message.as_of, "as_of"), blocks, message.day_spread, message.shadow_rows, message.shadow_failures
    )
