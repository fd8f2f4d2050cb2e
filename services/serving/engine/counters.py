"""How many rows did which variant answer, how fast, and how many failed? Plain numbers, shown by one collector (OPS-01)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from perennial import metrics
from perennial.runtime.telemetry import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

_EDGES = metrics.CALL_BUCKETS


class VariantCounter:
    """The rows of one (deployment, version, variant) in this process."""

    __slots__ = ("buckets", "errors", "labels", "rows", "seconds")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self.labels = labels
        self.rows = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(_EDGES) + 1)
        self.errors: dict[str, int] = {}

    def answered(self, rows: int, seconds: float, _edges: tuple[float, ...] = _EDGES) -> None:
        """A call of this variant was answered."""
        self.rows += rows
        self.seconds += seconds
        self.buckets[bisect_left(_edges, seconds)] += 1

    def failed(self, rows: int, reason: str) -> None:
        """Rows this variant could not answer."""
        self.errors[reason] = self.errors.get(reason, 0) + rows


class Counters:
    """The counters of all variants; one a process."""

    def __init__(self) -> None:
        self._every: dict[tuple[str, str, str], VariantCounter] = {}
        REGISTRY.register(self)

    def of(self, deployment: str, version: str, variant: str) -> VariantCounter:
        """The counter of a variant."""
        key = (deployment, version, variant)
        return self._every.setdefault(key, VariantCounter(key))

    def close(self) -> None:
        """Show nothing any more."""
        REGISTRY.unregister(self)

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """The metrics as Prometheus wants them."""
        labels = metrics.PREDICTIONS.labels
        rows = CounterMetricFamily(metrics.PREDICTIONS.name, metrics.PREDICTIONS.help, labels=labels)
        errors = CounterMetricFamily(
            metrics.PREDICTION_ERRORS.name, metrics.PREDICTION_ERRORS.help, labels=metrics.PREDICTION_ERRORS.labels
        )
        latency = HistogramMetricFamily(metrics.PREDICTION_LATENCY.name, metrics.PREDICTION_LATENCY.help, labels=labels)
        for counter in list(self._every.values()):
            rows.add_metric(counter.labels, counter.rows)
            for reason, count in counter.errors.items():
                errors.add_metric([*counter.labels, reason], count)
            total, cumulated = 0, []
            for edge, count in zip((*map(str, _EDGES), "+Inf"), counter.buckets, strict=True):
                total += count
                cumulated.append((edge, float(total)))
            latency.add_metric(counter.labels, cumulated, counter.seconds)
        yield from (rows, errors, latency)
