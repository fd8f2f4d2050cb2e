"""What the registry publishes, and the history it keeps of everybody."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from perennial import topics
from perennial.errors import NotFound
from perennial.runtime.events import Event
from perennial.v1 import common_pb2 as common
from perennial.v1 import events_pb2, platform_pb2, platform_pb2_grpc
from perennial.v1 import registry_pb2 as pb

from tests.registry.conftest import Registry
from tests.registry.test_aliases import set_alias


async def until(check: Callable[[], Awaitable[bool]], deadline_s: float = 20.0) -> None:
    """Wait for a condition that events bring about."""
    async with asyncio.timeout(deadline_s):
        while not await check():
            await asyncio.sleep(0.05)


async def chain(registry: Registry, any_id: str, least: int) -> list[common.ChainEvent]:
    """A chain once it has so many events."""
    found: list[common.ChainEvent] = []

    async def enough() -> bool:
        try:
            answer = await registry.call("ListChain", pb.ListChainRequest(correlation_id=any_id))
        except NotFound:
            return False
        found[:] = answer.events
        return len(found) >= least

    await until(enough)
    return found


async def test_a_version_carries_its_chain_on(registry: Registry, model: str) -> None:
    """ModelVersionRegistered has the decision's ids, and the chain is found by its first id or by any event in it."""
    correlation = secrets.token_hex(16)
    lineage = {"decision_id": "d1", "deployment": "eta", "job_id": "j1", "correlation_id": correlation, "causation_id": "cause"}
    await registry.call("UpsertModel", pb.UpsertModelRequest(name=model, approval_required=True))
    await registry.register(model, lineage=lineage)
    (event,) = await chain(registry, correlation, 1)
    assert (event.type, event.topic) == ("ModelVersionRegistered", "perennial.models")
    assert event.source.endswith("registry")
    assert (event.correlation_id, event.causation_id, event.subject) == (correlation, "cause", f"{model}/1.0.0")
    data = dict(event.data)
    assert (data["decision_id"], data["deployment"], data["job_id"], data["approval_required"]) == ("d1", "eta", "j1", True)
    assert await chain(registry, event.id, 1) == [event]


async def test_a_promotion_is_told_in_order(registry: Registry, model: str) -> None:
    """AliasMoved with the rollout's id, then both stages, each with the next version of the model."""
    await registry.register(model, header={"first_alias": "champion"})
    await registry.register(model)
    await set_alias(registry, model, "1.0.1", expected="1.0.0", by="service:serving", request_id=f"rollout-{model}")

    async def told() -> list[common.ChainEvent]:
        answer = await registry.call("ListEvents", pb.ListEventsRequest(page=common.Page(size=200)))
        return [event for event in answer.events if dict(event.data).get("model") == model]

    async def all_told() -> bool:
        return len(await told()) == 7

    await until(all_told)
    events = list(reversed(await told()))
    assert [event.type for event in events] == [
        "ModelVersionRegistered", "AliasMoved", "StageChanged",
        "ModelVersionRegistered", "AliasMoved", "StageChanged", "StageChanged",
    ]  # fmt: skip
    moved = dict(events[4].data)
    assert (moved["request_id"], moved["from_version"], moved["to_version"]) == (f"rollout-{model}", "1.0.0", "1.0.1")
    stages = [(data["version"], data["from_stage"], data["to_stage"]) for data in (dict(e.data) for e in events[5:])]
    assert stages == [("1.0.1", "development", "production"), ("1.0.0", "production", "archived")]


async def test_everybodys_events_are_kept_once(registry: Registry) -> None:
    """An event of any control topic is kept under its id, however often it comes; JSON of outside producers too."""
    correlation, name = secrets.token_hex(16), secrets.token_hex(4)
    declined = events_pb2.RetrainingDeclined(decision_id="d", deployment=name, model="m", trigger="drift", reason="budget")
    first = Event(topics.RETRAINING, "m", declined, subject=name, id=correlation)
    step = events_pb2.MetricsLogged(job_id="j", step=3, metrics={"loss": float("nan")})
    second = Event(topics.TRAINING, "j", step, subject=name, correlation_id=correlation, causation_id=first.id)
    for event in (first, first, second, first):
        await registry.runtime.bus.publish(event)
    headers = [
        ("ce_id", f"json-{name}".encode()), ("ce_type", b"DriftResolved"), ("ce_source", b"elsewhere"),
        ("content-type", b"application/json"), ("ce_subject", name.encode()),
    ]  # fmt: skip
    value = b'{"deployment": "d", "report_id": "r"}'
    await registry.runtime.bus.produce(topics.MONITORING, key=b"d", value=value, headers=headers)
    events = await chain(registry, second.id, 2)
    assert {(event.id, event.type) for event in events} == {(first.id, "RetrainingDeclined"), (second.id, "MetricsLogged")}
    assert next(event for event in events if event.type == "MetricsLogged").data["step"] == "3"
    foreign = (await chain(registry, f"json-{name}", 1))[0]
    assert (foreign.source, foreign.correlation_id, foreign.data["report_id"]) == ("elsewhere", f"json-{name}", "r")
    listed = await registry.call("ListEvents", pb.ListEventsRequest(subject=name))
    assert len(listed.events) == 3
    only = await registry.call("ListEvents", pb.ListEventsRequest(subject=name, type="DriftResolved"))
    assert [event.id for event in only.events] == [f"json-{name}"]


async def test_a_promotion_belongs_to_its_chain_and_its_time(registry: Registry, model: str) -> None:
    """Events of a replay carry the chain and the deployment's time, from registration to the move of the alias."""
    correlation, then = secrets.token_hex(16), datetime(2013, 5, 1, 12, tzinfo=UTC)
    stamp = Timestamp()
    stamp.FromDatetime(then)
    await registry.register(model, header={"first_alias": "champion"})
    ids: dict[str, Any] = {"correlation_id": correlation, "causation_id": correlation, "event_time": stamp}
    version = await registry.register(model, lineage={**ids, "parent": "1.0.0"})
    assert version.lineage.event_time == stamp
    request = pb.SetAliasRequest(name=model, alias="champion", version="1.0.1", expected="1.0.0", request_id="r", **ids)
    await registry.call("SetAlias", request, by="service:serving")
    events = await chain(registry, correlation, 4)
    assert [event.type for event in events] == ["ModelVersionRegistered", "AliasMoved", "StageChanged", "StageChanged"]
    assert {event.time.ToDatetime(UTC) for event in events} == {then}
    read = (await registry.call("GetModelVersion", pb.GetModelVersionRequest(name=model, version="1.0.1"))).model_version
    assert read.lineage == version.lineage


@pytest.mark.parametrize("service", ["registry"])
async def test_the_audit_is_intact(registry: Registry, model: str, service: str) -> None:
    """Every change is a line of the chain, and the chain fits together."""
    await registry.register(model)
    stub = platform_pb2_grpc.PlatformServiceStub(registry.channel)
    metadata = (("authorization", f"Bearer {registry.token('admin')}"),)
    answer = await stub.VerifyAudit(platform_pb2.VerifyAuditRequest(service=service), metadata=metadata, timeout=20)
    assert (answer.intact, answer.first_bad) == (True, 0)
    lines = await registry.runtime.postgres.fetch("select action from audit where subject = $1", f"{model} 1.0.0")
    assert [line["action"] for line in lines] == ["version.register"]
