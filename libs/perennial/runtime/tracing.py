"""Which trace does the present work belong to?

A W3C ``traceparent`` travels through gRPC metadata and Kafka headers always; spans are made only when
``OTEL_EXPORTER_OTLP_ENDPOINT`` is set, so tracing costs a context variable otherwise.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_PARENT: ContextVar[str] = ContextVar("perennial_traceparent", default="")
_EXPORTER: list["Tracer"] = []
_LENGTH = 55


def traceparent() -> str:
    """The present work's traceparent; a new trace begins when there is none."""
    value = _PARENT.get()
    if not value:
        value = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
        _PARENT.set(value)
    return value


def trace_id() -> str:
    """The present trace's id, or empty when there is none."""
    return _PARENT.get()[3:35]


def enter(value: str) -> None:
    """Continue the caller's trace in this task; anything malformed begins a new one."""
    _PARENT.set(value if len(value) == _LENGTH and value.startswith("00-") else "")


def enabled() -> bool:
    """Whether spans are made and exported."""
    return bool(_EXPORTER)


def set_up(service: str) -> None:
    """Export spans to the OTLP endpoint the environment names; nothing otherwise."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _EXPORTER:
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"perennial-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=5)))
    trace.set_tracer_provider(provider)
    _EXPORTER.append(provider.get_tracer("perennial"))


def shut_down() -> None:
    """Send what is still buffered; bounded by the exporter's own deadline."""
    if _EXPORTER:
        from opentelemetry import trace

        _EXPORTER.clear()
        provider: Any = trace.get_tracer_provider()
        provider.shutdown()


@contextmanager
def span(name: str, *, server: bool = False, **attributes: str | float | bool) -> Iterator[None]:
    """One span around the body when spans are exported; its failure is recorded on it."""
    if not _EXPORTER:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    parent = propagator.extract({"traceparent": _PARENT.get()})
    kind = trace.SpanKind.SERVER if server else trace.SpanKind.INTERNAL
    with _EXPORTER[0].start_as_current_span(name, context=parent, kind=kind, attributes=attributes):
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        token = _PARENT.set(carrier.get("traceparent", _PARENT.get()))
        try:
            yield
        finally:
            _PARENT.reset(token)
