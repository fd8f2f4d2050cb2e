"""Which topics are there, how are they keyed and how long do they keep?

The only place that knows. Topics are created from this table by ``perennial.runtime.bus.ensure_topics`` and never
automatically. Names here are bare: the runtime adds the namespace. Partition counts are defaults of a setting.
"""

from dataclasses import dataclass, replace
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Topic:
    """One Kafka topic; order is promised per key only."""

    name: str
    partitions: int
    retention: timedelta | None
    """None keeps for ever."""
    key: str
    """What the key of a record names."""
    types: tuple[str, ...] = ()
    """Messages of events.proto that travel here; none yet for a topic whose service is still to come."""
    compacted: bool = False

    @property
    def dlq(self) -> "Topic":
        """Where what cannot be decoded or is refused goes, with its original key, bytes and headers."""
        return replace(self, name=f"{self.name}.dlq", partitions=3, retention=timedelta(days=14), compacted=False)

    @property
    def is_dlq(self) -> bool:
        """True for a dead-letter topic."""
        return self.name.endswith(".dlq")


_WEEK = timedelta(days=7)
_MONTH = timedelta(days=30)

PREDICTIONS = Topic(
    "perennial.predictions", 12, _WEEK, "stream",
    ("PredictionBatch", "ShadowBatch", "StreamProgress", "StreamGap", "StreamEnded"),
)  # fmt: skip
OUTCOMES = Topic("perennial.outcomes", 12, _WEEK, "stream of the outcome producer", ("OutcomeBatch", "StreamProgress"))
FEATURES = Topic("perennial.features", 12, _WEEK, "entity", ("FeatureRows", "StreamProgress"))
MONITORING = Topic(
    "perennial.monitoring", 3, _MONTH, "deployment",
    ("DriftDetected", "DriftResolved", "VariantsCompared", "QualityIncident"),
)  # fmt: skip
RETRAINING = Topic("perennial.retraining", 3, _MONTH, "model", ("RetrainingRequested", "RetrainingDeclined"))
TRAINING = Topic("perennial.training", 6, _MONTH, "job", ("JobStateChanged", "MetricsLogged"))
MODELS = Topic(
    "perennial.models", 3, _MONTH, "model",
    ("ModelVersionRegistered", "StageChanged", "AliasMoved", "ApprovalDecided"),
)  # fmt: skip
DEPLOYMENTS = Topic(
    "perennial.deployments", 3, _MONTH, "deployment",
    ("RolloutStepped", "Promoted", "RolledBack", "RolloutDeclined"),
)  # fmt: skip
DEPLOYMENT_STATE = Topic("perennial.deployment-state", 1, None, "deployment", ("DeploymentStateChanged",), compacted=True)
EXPLANATIONS = Topic("perennial.explanations", 6, _WEEK, "stream")
ALERTS = Topic("perennial.alerts", 3, _MONTH, "alert")
AUDIT = Topic("perennial.audit", 1, None, "service", ("AuditHead",))

PRIMARY: tuple[Topic, ...] = (
    PREDICTIONS, OUTCOMES, FEATURES, MONITORING, RETRAINING, TRAINING, MODELS, DEPLOYMENTS, DEPLOYMENT_STATE,
    EXPLANATIONS, ALERTS, AUDIT,
)  # fmt: skip
TOPICS: tuple[Topic, ...] = (*PRIMARY, *(topic.dlq for topic in PRIMARY))
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
CONTROL: tuple[Topic, ...] = (MONITORING, RETRAINING, TRAINING, MODELS, DEPLOYMENTS, ALERTS)
"""The topics whose events make the registry's event history."""
