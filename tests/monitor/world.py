"""What serving, trainer and callers say to the monitor, said by tests."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from perennial.clock import EPOCH
from perennial.errors import from_status
from perennial.frames import Table, Text, encode, encode_text
from perennial.runtime.bus import Bus, Outgoing
from perennial.runtime.events import Event, Received, headers_of, received
from perennial.runtime.objects import Objects
from perennial.stats.errors import regression_errors
from perennial.stats.profile import build_profile
from perennial.topics import DEPLOYMENT_STATE, DEPLOYMENTS, OUTCOMES, PREDICTIONS, TRAINING, Topic
from perennial.v1 import common_pb2, monitor_pb2_grpc, serving_pb2
from perennial.v1 import events_pb2 as pb
from perennial.v1 import monitor_pb2 as api

from services.monitor import wire
from services.monitor.domain.time import DAY_US, HOUR_US

T0 = 15_706 * DAY_US  # 2013-01-01
FOREVER = 20.0


def inputs_of(rows: int, seed: int, scale: float = 1.0) -> Table:
    """Rows of two numbers and a text: distance (in miles, or times ``scale``), speed and carrier."""
    rng = np.random.default_rng(seed)
    distance = np.exp(rng.normal(6.5, 0.4, rows))
    carriers = [str(c) for c in rng.choice(["AA", "UA", "DL"], rows)]
    return Table.of({"distance": distance * scale, "speed": rng.normal(400, 30, rows), "carrier": carriers})


def reference(seed: int = 7) -> bytes:
    """The profile of 30 days of such rows, with errors of spread 5."""
    rows = 30 * 24 * 40
    inputs = inputs_of(rows, seed)
    times = T0 - 30 * DAY_US + np.arange(rows) * (HOUR_US // 40)
    rng = np.random.default_rng(seed + 1)
    outputs = Table.of({"prediction": inputs.numbers[:, 0] / 8})
    truth = outputs.numbers[:, 0] + rng.normal(0, 5, rows)
    errors = regression_errors(truth, outputs.numbers[:, 0], times)
    importance = {"distance": 0.8, "speed": 0.1, "carrier": 0.1}
    profile = build_profile(inputs, times_us=times, outputs=outputs, output_times_us=times, importance=importance, errors=errors)
    return profile.to_bytes()


@dataclass
class World:
    """The monitor under test and everybody around it."""

    bus: Bus
    objects: Objects
    database: Any
    """Reads the monitor's tables: ``fetchval``, ``fetchrow``, ``fetch``."""
    channel: grpc.aio.Channel
    token: str
    stub: Any = None
    _profile: bytes = b""
    _readers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stub = monitor_pb2_grpc.MonitorServiceStub(self.channel)

    async def call(self, method: str, request: Any, within_s: float = FOREVER) -> Any:
        """One call as the administrator; the platform's errors as they are at home."""
        try:
            metadata = (("authorization", f"Bearer {self.token}"),)
            return await getattr(self.stub, method)(request, timeout=within_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_status(error.code().name, error.details() or "") from None

    async def send(self, topic: Topic, key: str, message: Any, *, more: Sequence[tuple[str, bytes]] = (), rows: int = 0) -> None:
        """One event, as a producer outside the monitor sends it."""
        event = Event(topic, key, message, rows=rows, subject=getattr(message, "deployment", "") if topic == PREDICTIONS else "")
        headers = [*headers_of(event, source="test"), *more]
        record = Outgoing(key.encode(), message.SerializeToString(), headers)
        async with asyncio.timeout(FOREVER):  # topics may still be being made
            while await self.bus.produce_many(topic, [record]):
                pass

    async def deployed(self, policy: serving_pb2.MonitoringPolicy | None = None, **spec: Any) -> "Deployed":
        """A deployment in event time (unless told otherwise) whose champion is 1.0.0 and has a reference."""
        name = f"eta-{secrets.token_hex(3)}"
        self._profile = self._profile or await asyncio.to_thread(reference)
        await self.objects.put(f"models/{name}-1/reference.bin", self._profile)
        message = serving_pb2.Deployment(
            spec=serving_pb2.DeploymentSpec(
                name=name, model="eta", **{"time": serving_pb2.TIME_MODE_EVENT, **spec},
                monitoring=policy or serving_pb2.MonitoringPolicy(outcomes=True, retrain=True, min_rows=200),
            ),
            variants=[serving_pb2.Variant(name="champion", version="1.0.0", weight=1000)],
            state_version=1, champion_artifact=f"models/{name}-1", created_at=wire.stamp(T0),
            signature=common_pb2.Signature(
                task=common_pb2.TASK_REGRESSION,
                columns=[common_pb2.Column(name=n, type=common_pb2.COLUMN_TYPE_NUMBER) for n in ("distance", "speed")]
                + [common_pb2.Column(name="carrier", type=common_pb2.COLUMN_TYPE_TEXT)],
            ),
        )  # fmt: skip
        deployed = Deployed(self, message)
        await deployed.announced()

        async def known() -> bool:
            return bool(await self.database.fetchval("select 1 from deployments where name = $1", name))

        await self.until(known)
        return deployed

    async def events(self, topic: Topic, wanted: int, within_s: float = FOREVER, *, deployment: str = "") -> list[Received]:
        """The first events of a topic, from its beginning; those of one deployment only, if named."""
        consumer = self.bus.consumer([topic], group=None)
        await consumer.start()
        found: list[Received] = []
        try:
            async with asyncio.timeout(within_s):
                while len(found) < wanted:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        events = [received(record, topic=topic.name) for record in records if dict(record.headers).get("ce_id")]
                        found += [e for e in events if not deployment or getattr(e.message, "deployment", "") == deployment]
        except TimeoutError:
            pass
        finally:
            await consumer.stop()
        return found

    async def until(self, check: Any, within_s: float = FOREVER) -> Any:
        """What ``check`` gives, once it is true."""
        async with asyncio.timeout(within_s):
            while not (value := await check()):
                await asyncio.sleep(0.05)
        return value


@dataclass
class Deployed:
    """A deployment, its one prediction stream and its one outcome stream."""

    world: World
    message: serving_pb2.Deployment
    stream: str = field(default_factory=lambda: f"{secrets.token_hex(12)}.0")
    outcome_stream: str = field(default_factory=lambda: secrets.token_hex(6))
    next_n: int = 1
    next_outcome: int = 1
    version: str = "1.0.0"
    variant: str = "champion"

    @property
    def name(self) -> str:
        return self.message.spec.name

    async def announced(self) -> None:
        """Serving says how the deployment is."""
        await self.world.send(DEPLOYMENT_STATE, self.name, pb.DeploymentStateChanged(deployment=self.message))

    async def changed(self, **values: Any) -> None:
        """Serving says what is new."""
        self.message.state_version += 1
        for name, value in values.items():
            getattr(self.message, name).CopyFrom(value) if hasattr(value, "CopyFrom") else setattr(self.message, name, value)
        await self.announced()

    def batch(self, first_n: int, event_us: Sequence[int], inputs: Table, prediction: Any = None) -> pb.PredictionBatch:
        """A batch of the stream."""
        given = inputs.numbers[:, 0] / 8 if prediction is None else np.asarray(prediction, dtype=float)
        return pb.PredictionBatch(
            stream=self.stream, first_n=first_n, deployment=self.name, version=self.version, variant=self.variant,
            inputs=encode(inputs), outputs=encode(Table.of({"prediction": given})), event_times_us=list(event_us),
            entity_keys=encode_text(Text.of(f"e{i}" for i in range(len(event_us)))),
            latencies=np.zeros(len(event_us), "<f4").tobytes(), statuses=bytes(len(event_us)), model="eta",
        )  # fmt: skip

    async def send(self, batch: pb.PredictionBatch) -> None:
        """Send a batch as the spool does."""
        more = [("ce_stream", batch.stream.encode()), ("ce_firstn", str(batch.first_n).encode())]
        await self.world.send(PREDICTIONS, batch.stream, batch, more=more, rows=len(batch.event_times_us))

    async def predict(self, at_us: int, rows: int = 40, *, seed: int = 0, scale: float = 1.0) -> tuple[list[str], Any]:
        """Rows at an event time; their ids and predictions."""
        inputs = inputs_of(rows, seed or at_us % 2**31, scale)
        times = [at_us + i * 1_000_000 for i in range(rows)]
        first, self.next_n = self.next_n, self.next_n + rows
        await self.send(self.batch(first, times, inputs))
        return [f"{self.stream}-{first + i}" for i in range(rows)], inputs.numbers[:, 0] / 8

    async def progress(self, us: int, *, flush: bool = True) -> None:
        """The prediction watermark of the stream."""
        message = pb.StreamProgress(stream=self.stream, next_n=self.next_n, watermark_us=us, flush=flush, deployment=self.name,
                                    version=self.version, variant=self.variant)  # fmt: skip
        await self.world.send(PREDICTIONS, self.stream, message)

    async def record(
        self, ids: Sequence[str], truths: Any, known_us: int, *, watermark_us: int | None = None, revision: int = 0
    ) -> None:
        """Outcomes over gRPC."""
        request = api.RecordOutcomesRequest(
            deployment=self.name, stream=self.outcome_stream, first_n=self.next_outcome, prediction_ids=ids, numbers=list(truths),
            known_at_us=[known_us], revisions=[revision] * len(ids), watermark=wire.stamp(watermark_us), flush=True,
        )  # fmt: skip
        answer = await self.world.call("RecordOutcomes", request)
        self.next_outcome = answer.next_n

    async def settle(self, us: int, within_s: float = FOREVER) -> api.SettleResponse:
        """Wait until everything up to an instant is done."""
        request = api.SettleRequest(deployment=self.name, time=wire.stamp(us))
        found: api.SettleResponse = await self.world.call("Settle", request, within_s)
        return found

    async def hour(self, us: int, rows: int = 40, *, bias: float = 0.0, scale: float = 1.0, settle: bool = False) -> list[str]:
        """An hour of predictions whose truths are known at its end, and both watermarks after it."""
        ids, predicted = await self.predict(us, rows, scale=scale)
        noise = np.random.default_rng(us % 2**31 + 1).normal(bias, 5, rows)
        await self.progress(us + HOUR_US)
        await self.record(ids, predicted + noise, us + HOUR_US - 1, watermark_us=us + HOUR_US)
        if settle:
            await self.settle(us + HOUR_US)
        return ids

    def rollout(
        self, started_us: int, state: serving_pb2.RolloutState.ValueType = serving_pb2.ROLLOUT_STATE_SHADOW, decision: str = ""
    ) -> serving_pb2.Rollout:
        """A rollout of 1.0.1."""
        return serving_pb2.Rollout(
            rollout_id=f"{self.name}-r1", deployment=self.name, model="eta", champion="1.0.0", challenger="1.0.1", state=state,
            started_at=wire.stamp(started_us), correlation_id="chain-1", decision_id=decision,
        )  # fmt: skip

    async def shadow(self, ids: Sequence[str], predicted: Any, us: int, *, failed: Sequence[int] = ()) -> None:
        """The challenger's answers for rows of the stream."""
        positions = [int(i.rpartition("-")[2]) for i in ids]
        statuses = bytes(1 if row in failed else 0 for row in range(len(ids)))
        message = pb.ShadowBatch(
            stream=self.stream, positions=positions, deployment=self.name, version="1.0.1", rollout=f"{self.name}-r1",
            outputs=encode(Table.of({"prediction": np.asarray(predicted, dtype=float)})), statuses=statuses,
            event_times_us=[us] * len(ids),
        )  # fmt: skip
        await self.world.send(PREDICTIONS, self.stream, message)

    async def ledger(self) -> dict[tuple[str, str], api.LedgerLine]:
        """The ledger's lines by version and variant."""
        answer = await self.world.call("GetLedger", api.GetLedgerRequest(deployment=self.name))
        return {(line.version, line.variant): line for line in answer.lines}

    async def job(self, decision: str, state: str, version: str = "") -> None:
        """The trainer says where a job is."""
        await self.world.send(
            TRAINING, "job", pb.JobStateChanged(job_id="job", state=state, model="eta", decision_id=decision, version=version)
        )

    async def rollout_ended(self, message: Any) -> None:
        """Serving says how a rollout ended."""
        await self.world.send(DEPLOYMENTS, self.name, message)


__all__ = ["EPOCH", "OUTCOMES", "T0", "Deployed", "World"]
