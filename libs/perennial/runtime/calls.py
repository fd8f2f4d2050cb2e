"""How many calls, how long, how often by whom?

Counted with plain numbers (a Prometheus histogram costs ten times as much a call) and shown by one collector.
"""

from bisect import bisect_left
from collections.abc import Iterator
from time import perf_counter
from typing import ClassVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from perennial import metrics
from perennial.runtime.telemetry import REGISTRY


class CallStats:
    """The calls of one method."""

    every: ClassVar[dict[str, "CallStats"]] = {}
    __slots__ = ("_buckets", "_seconds", "_statuses", "method", "open")

    def __init__(self, method: str) -> None:
        self.method = method
        self.open = 0
        self._buckets = [0] * (len(metrics.CALL_BUCKETS) + 1)
        self._seconds = 0.0
        self._statuses: dict[str, int] = {}

    @classmethod
    def of(cls, method: str) -> "CallStats":
        """The one object of a method in this process."""
        if not cls.every:
            REGISTRY.register(_Calls())
        return cls.every.setdefault(method, cls(method))

    def observe(self, seconds: float, _buckets: tuple[float, ...] = metrics.CALL_BUCKETS) -> None:
        """A call that was answered."""
        self._buckets[bisect_left(_buckets, seconds)] += 1
        self._seconds += seconds

    def failed(self, status: str, seconds: float) -> None:
        """A call that left with an error."""
        self.observe(seconds)
        self._statuses[status] = self._statuses.get(status, 0) + 1

    @property
    def count(self) -> int:
        """Calls so far."""
        return sum(self._buckets)

    def statuses(self) -> dict[str, int]:
        """Calls by status."""
        return {"OK": self.count - sum(self._statuses.values()), **self._statuses}

    def histogram(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets and the sum, as Prometheus wants them."""
        total, rows = 0, []
        for edge, count in zip((*map(str, metrics.CALL_BUCKETS), "+Inf"), self._buckets, strict=True):
            total += count
            rows.append((edge, float(total)))
        return rows, self._seconds


class _Calls:
    """Shows the statistics of all methods."""

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        calls = CounterMetricFamily(metrics.CALLS.name, metrics.CALLS.help, labels=metrics.CALLS.labels)
        seconds = HistogramMetricFamily(metrics.CALL_SECONDS.name, metrics.CALL_SECONDS.help, labels=metrics.CALL_SECONDS.labels)
        for stats in list(CallStats.every.values()):
            for status, count in stats.statuses().items():
                calls.add_metric([stats.method, status], count)
            buckets, total = stats.histogram()
            seconds.add_metric([stats.method], buckets, total)
        yield calls
        yield seconds
        running = sum(stats.open for stats in CallStats.every.values())
        yield GaugeMetricFamily(metrics.CALLS_OPEN.name, metrics.CALLS_OPEN.help, value=running)


class Rates:
    """A token bucket a caller, one second deep."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._depth = max(per_second, 1.0)
        self._buckets: dict[str, tuple[float, float]] = {}

    def admits(self, caller: str) -> bool:
        """Whether this call of ``caller`` is within the rate."""
        now = perf_counter()
        left, then = self._buckets.get(caller, (self._depth, now))
        left = min(self._depth, left + (now - then) * self.per_second)
        admitted = left >= 1.0
        self._buckets[caller] = (left - 1.0 if admitted else left, now)
        return admitted
