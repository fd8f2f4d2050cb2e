"""Calls between services carry identity, deadline and trace, and come back as our errors."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from perennial import topics
from perennial.errors import DeadlineExceeded, InvalidArgument, NotFound, PermissionDenied, Unavailable
from perennial.runtime import tracing
from perennial.runtime.events import Event, Received
from perennial.runtime.identity import caller
from perennial.runtime.kafka import ensure_topics
from perennial.runtime.peers import Peers
from perennial.v1 import events_pb2, registry_pb2

from tests.runtime.conftest import NAMESPACE, Start, Trial, TrialConfig

REGISTRY = registry_pb2.DESCRIPTOR.services_by_name["RegistryService"]


class Registry:
    """Answers GetModel as told; every other method says UNIMPLEMENTED."""

    def __init__(self, act: Any) -> None:
        self.calls = 0
        self._act = act

    def __getattr__(self, name: str) -> Any:
        method: Any = REGISTRY.methods_by_name.get(name)
        if method is None:
            raise AttributeError(name)

        async def single(request: Any, context: Any) -> Any:
            self.calls += 1
            return method.output_type._concrete_class(**(await self._act(self.calls, name) or {}))

        async def stream(request: Any, context: Any) -> Any:
            self.calls += 1
            await self._act(self.calls, name)
            yield method.output_type._concrete_class()

        return stream if method.server_streaming else single


async def nothing(request: Any) -> str:
    return ""


async def peered(start: Start, act: Any) -> tuple[Registry, Peers, Trial]:
    registry = Registry(act)

    async def build(runtime: Any) -> None:
        runtime.add_servicer(registry, REGISTRY)

    trial = await start(nothing, build=build)
    config = TrialConfig.load(
        registry_address=f"127.0.0.1:{trial.runtime.port}", namespace=NAMESPACE, secrets_dir=_secrets(trial)
    )
    return registry, Peers(config, trial.runtime.token), trial


def _secrets(trial: Trial) -> Path:
    return Path(trial.runtime.config.secrets_dir)


async def test_a_call_carries_the_service_and_its_trace(start: Start) -> None:
    """The other side knows which service calls and which trace it belongs to."""
    seen: list[Any] = []

    async def act(number: int, name: str) -> None:
        seen.append((caller().name, tracing.trace_id()))

    _, peers, trial = await peered(start, act)
    tracing.enter("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    await peers.registry.GetModel(registry_pb2.GetModelRequest(name="m"))
    tracing.enter("")
    await peers.registry.GetModel(registry_pb2.GetModelRequest(name="m"))
    await peers.close()
    assert seen[0] == (f"service:{trial.runtime.name}", "0af7651916cd43dd8448eb211c80319c")
    assert seen[1][1] not in ("", seen[0][1])


@pytest.mark.parametrize("kind", [NotFound, InvalidArgument, PermissionDenied])
async def test_errors_come_back_as_they_were_raised(start: Start, kind: type[Exception]) -> None:
    """Class and text survive; a definite error is not tried again."""

    async def act(number: int, name: str) -> None:
        raise kind("model m")

    registry, peers, _ = await peered(start, act)
    with pytest.raises(kind, match="model m"):
        await peers.registry.GetModel(registry_pb2.GetModelRequest(name="m"))
    with pytest.raises(kind, match="model m"):
        _ = [one async for one in peers.registry.DownloadModelVersion(registry_pb2.DownloadModelVersionRequest())]
    await peers.close()
    assert registry.calls == 2


async def test_reads_are_repeated_when_the_peer_is_unavailable_and_commands_are_not(start: Start) -> None:
    """A read that fails twice works the third time; a command is told to its caller."""

    async def act(number: int, name: str) -> None:
        if name == "UpsertModel" or number < 3:
            raise Unavailable("restarting")

    registry, peers, trial = await peered(start, act)
    peers._token = lambda: trial.runtime.config.secret("admin_token", "admin-token")
    await peers.registry.GetModel(registry_pb2.GetModelRequest(name="m"))
    assert registry.calls == 3
    with pytest.raises(Unavailable):
        await peers.registry.UpsertModel(registry_pb2.UpsertModelRequest())
    await peers.close()
    assert registry.calls == 4


async def test_a_deadline_holds_across_all_tries(start: Start) -> None:
    """A peer that hangs or is not there costs the caller its deadline and no more."""

    async def act(number: int, name: str) -> None:
        await asyncio.sleep(30)

    _, peers, trial = await peered(start, act)
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await peers.registry.GetModel(registry_pb2.GetModelRequest(), timeout=0.3)
    gone = Peers(
        TrialConfig.load(registry_address="127.0.0.1:9", namespace=NAMESPACE, secrets_dir=_secrets(trial)), trial.runtime.token
    )
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await gone.registry.GetModel(registry_pb2.GetModelRequest(), timeout=0.6)
    assert time.monotonic() - begin < 3
    await gone.close()
    await peers.close()


async def test_a_trace_goes_from_the_call_through_the_outbox_to_the_reader(start: Start) -> None:
    """OPS-14: one trace id from the first request to the last effect."""
    box: list[Trial] = []
    arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def act(request: Any) -> str:
        async with box[0].runtime.postgres.transaction() as transaction:
            await transaction.publish(Event(topics.MONITORING, "traced", events_pb2.DriftDetected(), subject=request.text))
        return ""

    async def handle(event: Received) -> None:
        if event.key == b"traced" and not arrived.done():
            arrived.set_result(tracing.trace_id())

    async def build(runtime: Any) -> None:
        await ensure_topics(runtime.config)
        runtime.consume(topics.MONITORING, group="traces", handle=handle)

    from tests.runtime.echo import EchoRequest

    box.append(await start(act, build=build))
    parent = ("traceparent", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    await box[0].call("Single")(EchoRequest(text="x"), metadata=(*box[0].admin, parent))
    assert await asyncio.wait_for(arrived, 20) == "1af7651916cd43dd8448eb211c80319c"
