"""Serving and registry as real processes, spoken to over gRPC, and what they put on topics."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from google.protobuf.timestamp_pb2 import Timestamp
from perennial.clock import to_us
from perennial.errors import from_status
from perennial.frames import Table, decode, encode
from perennial.package import ModelPackage
from perennial.runtime.events import Event, headers_of
from perennial.runtime.events import decode as decode_event
from perennial.runtime.tokens import ServiceKey
from perennial.testing.platform import Platform, ServiceProcess
from perennial.topics import Topic
from perennial.v1 import registry_pb2, registry_pb2_grpc, serving_pb2_grpc
from perennial.v1 import serving_pb2 as pb
from perennial.v1.events_pb2 import PredictionBatch, ShadowBatch, StreamEnded, StreamGap, StreamProgress

from tests.serving.models import upload

STUBS = {"registry": registry_pb2_grpc.RegistryServiceStub, "serving": serving_pb2_grpc.ServingServiceStub}
START = datetime(2013, 2, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000


def at(hours: float) -> int:
    """Microseconds of so many hours after the beginning of the replay."""
    return to_us(START) + int(hours * HOUR_US)


def stamp(us: int) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(us)
    return made


@dataclass
class World:
    """A registry, a serving process, and a caller."""

    platform: Platform
    registry: ServiceProcess
    serving: ServiceProcess
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    async def call(self, method: str, request: Any, *, service: str = "serving", timeout: float = 20, token: str = "") -> Any:
        """One call; the platform's errors as they are at home."""
        if service not in self.channels:
            self.channels[service] = grpc.aio.insecure_channel(
                self.platform.address(service),
                options=[("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)],
            )
        stub = STUBS[service](self.channels[service])
        metadata = (("authorization", f"Bearer {token or self.platform.admin_token}"),)
        try:
            return await getattr(stub, method)(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_status(error.code().name, error.details() or "") from None

    async def close(self) -> None:
        for channel in self.channels.values():
            await channel.close()

    async def register(self, model: str, made: ModelPackage, *, deployment: str = "", decision: str = "") -> str:
        """Register a version; its number."""
        lineage = {"deployment": deployment, "decision_id": decision} if deployment else None
        key = ServiceKey((self.platform.home.secrets / "service-key").read_text().strip())
        token = key.token("trainer", audience=f"perennial:{self.platform.namespace}")
        answer = await self.call("RegisterModelVersion", upload(model, made, lineage=lineage), service="registry", token=token)
        return str(answer.model_version.version)

    async def alias(self, model: str) -> str:
        """The version the alias champion names."""
        answer = await self.call("GetModel", registry_pb2.GetModelRequest(name=model), service="registry")
        return str(answer.model.aliases["champion"])

    async def move_alias(self, model: str, version: str) -> None:
        """A person moves the alias."""
        request = registry_pb2.SetAliasRequest(name=model, alias="champion", version=version, expected="*")
        await self.call("SetAlias", request, service="registry")

    async def deploy(self, model: str, *, name: str = "", time: Any = pb.TIME_MODE_ARRIVAL, **spec: Any) -> pb.Deployment:
        """A new deployment of a model."""
        made = pb.DeploymentSpec(name=name or f"d-{secrets.token_hex(4)}", model=model, time=time, **spec)
        answer = await self.call("CreateDeployment", pb.CreateDeploymentRequest(spec=made, request_id=secrets.token_hex(8)))
        found: pb.Deployment = answer.deployment
        return found

    async def deployment(self, name: str) -> pb.Deployment:
        found: pb.Deployment = (await self.call("GetDeployment", pb.GetDeploymentRequest(name=name))).deployment
        return found

    async def rollouts(self, name: str) -> Sequence[pb.Rollout]:
        """Newest first."""
        answer = await self.call("ListRollouts", pb.ListRolloutsRequest(deployment=name))
        found: Sequence[pb.Rollout] = answer.rollouts
        return found

    async def predict(
        self, deployment: str, rows: Any, *, keys: Sequence[str] = (), times: Sequence[int] = (), request_id: str = "",
        timeout: float = 20,
    ) -> pb.PredictResponse:  # fmt: skip
        frame = rows if not isinstance(rows, dict) else encode(Table.of(rows))
        request = pb.PredictRequest(
            deployment=deployment, rows=frame, entity_keys=keys, event_times_us=times, request_id=request_id
        )
        found: pb.PredictResponse = await self.call("Predict", request, timeout=timeout)
        return found

    async def advance(self, deployment: str, us: int) -> None:
        await self.call("AdvanceWatermark", pb.AdvanceWatermarkRequest(deployment=deployment, time=stamp(us), flush=True))

    async def settle(self, deployment: str, us: int, versions: Sequence[str] = (), timeout: float = 20) -> pb.Deployment:
        request = pb.SettleServingRequest(deployment=deployment, time=stamp(us), versions=versions)
        found: pb.Deployment = (await self.call("SettleServing", request, timeout=timeout)).deployment
        return found

    async def publish(self, topic: Topic, key: str, message: Any, **event: Any) -> None:
        """An event as another service would send it."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await producer.start()
        made = Event(topic, key, message, **event)
        try:
            await producer.send_and_wait(
                f"{self.platform.namespace}.{topic.name}", message.SerializeToString(), key.encode(),
                headers=headers_of(made, source="test"),
            )  # fmt: skip
        finally:
            await producer.stop()

    @property
    def bootstrap(self) -> str:
        return self.platform.variables["PERENNIAL_KAFKA__BOOTSTRAP"]

    async def events(self, topic: Topic) -> list[tuple[dict[str, bytes], Any]]:
        """Everything on a topic up to its end now, with its headers, in order per partition."""
        name = f"{self.platform.namespace}.{topic.name}"
        consumer = AIOKafkaConsumer(
            name, bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        found: list[tuple[dict[str, bytes], Any]] = []
        try:
            partitions = list(consumer.assignment())
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(dict(r.headers), decode_event(r.headers, r.value)) for r in records]
        finally:
            await consumer.stop()
        return found


@dataclass
class Ledger:
    """What stands on the topic of predictions of one deployment."""

    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(stream, n) → how often."""
    outputs: dict[tuple[str, int], float] = field(default_factory=dict)
    versions: dict[tuple[str, int], str] = field(default_factory=dict)
    keys: dict[tuple[str, int], str | None] = field(default_factory=dict)
    times: dict[tuple[str, int], int] = field(default_factory=dict)
    inputs: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    statuses: dict[tuple[str, int], int] = field(default_factory=dict)
    shadows: dict[tuple[str, int, str], tuple[float, int]] = field(default_factory=dict)
    gaps: list[StreamGap] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    progress: list[StreamProgress] = field(default_factory=list)

    @classmethod
    async def of(cls, world: World, topic: Topic, deployment: str) -> "Ledger":
        found = cls()
        for _, message in await world.events(topic):
            if message.deployment == deployment:
                found.add(message)
        return found

    def add(self, message: Any) -> None:
        if isinstance(message, PredictionBatch):
            self._add_batch(message)
        elif isinstance(message, ShadowBatch):
            values = decode(message.outputs).column("prediction")
            for n, value, status in zip(message.positions, values, message.statuses, strict=True):
                self.shadows[message.stream, n, message.version] = (float(value), status)
        elif isinstance(message, StreamGap):
            self.gaps.append(message)
        elif isinstance(message, StreamEnded):
            self.ended[message.stream] = message.last_n
        elif isinstance(message, StreamProgress):
            self.progress.append(message)

    def _add_batch(self, batch: PredictionBatch) -> None:
        inputs = list(decode(batch.inputs).to_rows())
        outputs = decode(batch.outputs).numbers[:, 0]
        keys = np.frombuffer(batch.entity_keys.codes, dtype="<i4")
        for i, row in enumerate(inputs):
            place = (batch.stream, batch.first_n + i)
            self.rows[place] += 1
            self.outputs[place] = float(outputs[i])
            self.versions[place] = batch.version
            self.keys[place] = batch.entity_keys.values[keys[i]] if keys[i] >= 0 else None
            self.times[place] = batch.event_times_us[i]
            self.inputs[place] = row
            self.statuses[place] = batch.statuses[i]


def ids(answer: pb.PredictResponse) -> list[tuple[str, int]]:
    """(stream, n) of each row of an answer, in the rows' order."""
    count = decode(answer.outputs).rows
    found: list[tuple[str, int]] = [("", 0)] * count
    for run in answer.runs:
        for i, row in enumerate(run.rows or range(count)):
            found[row] = (run.stream, run.first_n + i)
    return found


def values(answer: pb.PredictResponse) -> list[float]:
    """The predictions of an answer."""
    return [float(v) for v in decode(answer.outputs).column("prediction")]


async def until(check: Callable[[], Awaitable[Any]], what: str, deadline_s: float = 20) -> Any:
    """What ``check`` gives, as soon as it is true."""
    end = asyncio.get_running_loop().time() + deadline_s
    while True:
        found = await check()
        if found:
            return found
        assert asyncio.get_running_loop().time() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.1)
