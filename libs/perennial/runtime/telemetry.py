"""What does a service say about itself while it runs?

Logs are JSON lines (structlog) on stderr with the trace and the call's identity; metrics are Prometheus objects of the
table in :mod:`perennial.metrics`, in one registry a process.
"""

import logging
import sys
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily

from perennial import metrics
from perennial.metrics import Metric
from perennial.runtime import tracing

REGISTRY = CollectorRegistry(auto_describe=False)
_MADE: dict[str, Any] = {}
_QUIET_S = 10.0
_NOISY = ("aiokafka", "faust", "mode", "kafka", "asyncio", "urllib3", "grpc")


def metric(what: Metric) -> Any:
    """The Prometheus object of a metric: ``metric(metrics.PREDICTIONS).labels(…).inc()``."""
    made = _MADE.get(what.name)
    if made is None:
        made = _MADE[what.name] = _make(what)
    return made


def _make(what: Metric) -> Any:
    if what.kind == "counter":
        return Counter(what.name, what.help, what.labels, registry=REGISTRY)
    if what.kind == "gauge":
        return Gauge(what.name, what.help, what.labels, registry=REGISTRY)
    return Histogram(what.name, what.help, what.labels, registry=REGISTRY, buckets=what.buckets or metrics.CALL_BUCKETS)


class _Cpu:
    """ml_system_cpu_usage_percent: this process's CPU between two scrapes."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        wall, cpu = time.monotonic(), time.process_time()
        share = 100.0 * (cpu - self._cpu) / max(wall - self._wall, 1e-6)
        self._wall, self._cpu = wall, cpu
        yield GaugeMetricFamily(metrics.SYSTEM_CPU.name, metrics.SYSTEM_CPU.help, value=share)


class _RateLimit(logging.Filter):
    """At most one line in ten seconds for the same place of a noisy library; the next one says how many were kept back."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int], float] = {}
        self._held: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_NOISY):
            return True
        place, now = (record.pathname, record.lineno), time.monotonic()
        if now - self._last.get(place, -_QUIET_S) < _QUIET_S:
            self._held[place] = self._held.get(place, 0) + 1
            return False
        self._last[place] = now
        held = self._held.pop(place, 0)
        if held:
            record.msg, record.args = f"{record.getMessage()} ({held} like this kept back)", ()
        return True


def _trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    trace = tracing.trace_id()
    if trace:
        event["trace_id"] = trace
    return event


class _Handler(logging.StreamHandler[Any]):
    """Writes to whatever is standard error now: test runners exchange it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, _value: Any) -> None:
        """Never kept."""


def set_up(service: str, level: str = "info") -> Any:
    """Logging and process metrics of a service; its logger."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _trace,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ],
    )
    handler = _Handler()
    handler.setFormatter(rendered)
    handler.addFilter(_RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if not isinstance(other, _Handler)] + [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    if "process" not in _MADE:
        _MADE["process"] = ProcessCollector(registry=REGISTRY)
        REGISTRY.register(_Cpu())
    tracing.set_up(service)
    return log(f"perennial.{service}")


def log(name: str) -> Any:
    """A structured logger: ``log(__name__).info("what happened", key=value)``."""
    return structlog.stdlib.get_logger(name)
