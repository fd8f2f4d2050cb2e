"""Do the tables of facts agree with each other and with the contracts?"""

import re

import pytest
from google.protobuf.message import Message
from perennial import errors, metrics, topics
from perennial.runtime import telemetry
from perennial.runtime.events import Event, decode, headers_of
from perennial.v1 import events_pb2

MESSAGES = set(events_pb2.DESCRIPTOR.message_types_by_name)


@pytest.mark.parametrize("topic", topics.PRIMARY, ids=lambda topic: topic.name)
def test_what_a_topic_carries_is_in_the_contract(topic: topics.Topic) -> None:
    """Every type named for a topic is a message of events.proto."""
    assert set(topic.types) <= MESSAGES


def test_topics_are_unique_and_have_dead_letters() -> None:
    """A topic and its dead letter, by name."""
    names = [topic.name for topic in topics.TOPICS]
    assert len(set(names)) == len(names)
    assert all(f"{topic.name}.dlq" in names for topic in topics.PRIMARY)
    assert not any(topic.dlq.compacted for topic in topics.PRIMARY)
    assert [topic.name for topic in topics.PRIMARY if topic.compacted] == ["perennial.deployment-state"]


@pytest.mark.parametrize("kind", sorted({kind for topic in topics.PRIMARY for kind in topic.types} & MESSAGES))
def test_every_event_survives_the_journey(kind: str) -> None:
    """Headers and bytes give the message back, as protobuf and as JSON."""
    from google.protobuf import json_format

    message: Message = getattr(events_pb2, kind)()
    topic = next(topic for topic in topics.PRIMARY if kind in topic.types)
    headers = headers_of(Event(topic, "key", message, subject="s"), source="test")
    assert decode(headers, message.SerializeToString()) == message
    as_json = [(name, b"application/json" if name == "content-type" else value) for name, value in headers]
    assert decode(as_json, json_format.MessageToJson(message).encode()) == message


@pytest.mark.parametrize("metric", metrics.METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_prometheus_wants(metric: metrics.Metric) -> None:
    """Counters end in _total, times in _seconds, and Prometheus makes it."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert metric.help
    if metric not in (metrics.SYSTEM_CPU, metrics.CALLS, metrics.CALL_SECONDS, metrics.CALLS_OPEN):
        telemetry.metric(metric)


def test_the_source_documents_metrics_are_there() -> None:
    """OPS-01: exactly these names."""
    wanted = {
        "ml_prediction_latency_seconds", "ml_prediction_errors_total", "ml_predictions_total", "ml_model_memory_usage_bytes",
        "ml_feature_drift_score", "ml_system_cpu_usage_percent",
    }  # fmt: skip
    assert wanted <= set(metrics.BY_NAME)
    assert len(metrics.BY_NAME) == len(metrics.METRICS)


def test_every_status_has_one_error() -> None:
    """The client's way back is the way out reversed."""
    import grpc

    codes = {code.name for code in grpc.StatusCode} - {"OK", "UNKNOWN"}
    assert set(errors.BY_STATUS) == codes
    for status, kind in errors.BY_STATUS.items():
        assert type(errors.from_status(status, "x")) is kind
    assert isinstance(errors.from_status("UNKNOWN", "x"), errors.Internal)
