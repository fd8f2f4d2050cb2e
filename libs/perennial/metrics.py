"""Which numbers does the platform show, and what does each mean?

Every metric of every service is declared here once; ``perennial.runtime.telemetry.metric`` makes the Prometheus
object. Dashboards, alerts and documentation are checked against this table.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

CALL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JOB_BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of numbers."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Predictions. The ml_ names are those of the source documents (OPS-01).
_VARIANT = ("deployment", "version", "variant")
PREDICTIONS = Metric("ml_predictions_total", "counter", "Rows predicted and acknowledged", _VARIANT)
PREDICTION_ERRORS = Metric("ml_prediction_errors_total", "counter", "Rows whose prediction failed", (*_VARIANT, "reason"))
PREDICTION_LATENCY = Metric(
    "ml_prediction_latency_seconds", "histogram", "Time from a parsed request to its encoded answer", _VARIANT, CALL_BUCKETS
)
MODEL_MEMORY = Metric("ml_model_memory_usage_bytes", "gauge", "Memory held by a loaded model", ("model", "version"))
FEATURE_DRIFT = Metric(
    "ml_feature_drift_score",
    "gauge",
    "Drift statistic of a column in the last closed window",
    ("deployment", "feature", "method"),
)
SYSTEM_CPU = Metric("ml_system_cpu_usage_percent", "gauge", "CPU of this process since the last scrape, 100 = one core")

# The runtime, the same in every service.
CALLS = Metric("perennial_calls_total", "counter", "Calls answered, by method and status", ("method", "status"))
CALL_SECONDS = Metric("perennial_call_seconds", "histogram", "Time in the service by method", ("method",), CALL_BUCKETS)
CALLS_OPEN = Metric("perennial_calls_open", "gauge", "Calls being handled now")
PEER_CALLS = Metric("perennial_peer_calls_total", "counter", "Calls made to other services", ("method", "status"))
EVENTS_PUBLISHED = Metric("perennial_events_published_total", "counter", "Events acknowledged by the broker", ("topic",))
EVENTS_CONSUMED = Metric("perennial_events_consumed_total", "counter", "Events whose effect is done", ("topic", "group"))
EVENTS_RETRIED = Metric("perennial_events_retried_total", "counter", "Attempts at an event that failed", ("topic", "group"))
EVENTS_DEAD = Metric("perennial_events_dead_lettered_total", "counter", "Events sent to the dead letter", ("topic",))
EVENTS_DROPPED = Metric("events_dropped_total", "counter", "Prediction events lost for want of disk", ("deployment", "reason"))
CONSUMER_LAG = Metric("perennial_consumer_lag_events", "gauge", "Records between position and end", ("topic", "group"))
CONSUMER_RESTARTS = Metric("perennial_consumer_restarts_total", "counter", "Consumers rebuilt by their watchdog", ("group",))
PRODUCER_RESTARTS = Metric("perennial_producer_restarts_total", "counter", "Kafka producers replaced after a missed deadline")
OUTBOX_PENDING = Metric("perennial_outbox_pending_events", "gauge", "Outbox rows not yet acknowledged by the broker")
OUTBOX_RELAYED = Metric("perennial_outbox_relayed_total", "counter", "Outbox rows acknowledged and deleted")
AUDIT_ENTRIES = Metric("perennial_audit_entries_total", "counter", "Rows added to the audit chain")
REQUESTS_REPEATED = Metric("perennial_requests_repeated_total", "counter", "Calls answered from a stored request id", ("method",))
LEASE_HELD = Metric("perennial_lease_held", "gauge", "1 while this process holds the lease", ("lease",))
CONDITION = Metric("perennial_condition_ok", "gauge", "1 when the background condition holds", ("condition",))
BACKGROUND_RESTARTS = Metric("perennial_background_restarts_total", "counter", "Background tasks restarted", ("task",))

# Serving: spool, snapshot, traffic, rollouts.
SPOOL_PENDING = Metric("perennial_spool_pending_rows", "gauge", "Rows in the spool not yet acknowledged by the broker")
SPOOL_BYTES = Metric("perennial_spool_bytes", "gauge", "Bytes of spool segments on disk")
SNAPSHOT_AGE = Metric("perennial_snapshot_age_seconds", "gauge", "Age of the routing snapshot in use")
MODELS_LOADED = Metric("perennial_models_loaded", "gauge", "Model versions loaded in this process")
SHADOW_DROPPED = Metric(
    "perennial_shadow_dropped_total", "counter", "Shadow rows dropped by a full queue", ("deployment", "version")
)
VARIANT_CUT = Metric("perennial_variant_cut_total", "counter", "Variants cut by a guardrail", ("deployment", "version", "reason"))
TRAFFIC_SHARE = Metric("perennial_traffic_share", "gauge", "Share of traffic by variant, 0 to 1", _VARIANT)
ROLLOUT_STEP = Metric("perennial_rollout_traffic_percent", "gauge", "Traffic given to the challenger", ("deployment", "version"))

# Monitor.
ROWS_COUNTED = Metric("perennial_rows_counted_total", "counter", "Prediction rows folded into windows", ("deployment",))
ROWS_LATE = Metric("perennial_rows_late_total", "counter", "Prediction rows that came for a closed window", ("deployment",))
STREAM_GAPS = Metric("perennial_stream_gap_rows_total", "counter", "Rows missing between positions of a stream", ("deployment",))
OUTCOMES_JOINED = Metric("perennial_outcomes_joined_total", "counter", "Outcomes matched with their prediction", ("deployment",))
WATERMARK = Metric("perennial_watermark_timestamp_seconds", "gauge", "Watermark of a deployment", ("deployment", "kind"))
WINDOWS_CLOSED = Metric("perennial_windows_closed_total", "counter", "Windows closed", ("deployment",))
FEATURES_DRIFTED = Metric(
    "perennial_features_drifted", "gauge", "Columns past their threshold in the last window", ("deployment",)
)
PERFORMANCE = Metric("perennial_performance", "gauge", "A performance figure of the last closed block", ("deployment", "metric"))
RETRAININGS = Metric("perennial_retrainings_requested_total", "counter", "Retrainings asked for", ("deployment", "reason"))
ALERTS = Metric("perennial_alerts_raised_total", "counter", "Alerts raised", ("severity",))

# Trainer, feature, explainer.
JOBS = Metric("perennial_jobs_total", "counter", "Training jobs finished", ("state",))
JOBS_RUNNING = Metric("perennial_jobs_running", "gauge", "Training jobs running now")
JOB_SECONDS = Metric("perennial_job_seconds", "histogram", "Run time of training jobs", ("algorithm",), JOB_BUCKETS)
FEATURE_ROWS = Metric("perennial_feature_rows_total", "counter", "Feature rows ingested", ("view",))
FEATURE_READS = Metric("perennial_feature_reads_total", "counter", "Entities read online", ("service",))
EXPLANATIONS = Metric("perennial_explanations_total", "counter", "Rows explained", ("method",))

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
