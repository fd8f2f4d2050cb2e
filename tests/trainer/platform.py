"""Registry, feature store and trainer as programs of their own, and their callers."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from perennial import topics
from perennial.errors import from_status
from perennial.runtime.bus import Bus
from perennial.runtime.config import ServiceConfig
from perennial.runtime.events import Event, Received, received
from perennial.runtime.objects import Objects, open_objects
from perennial.v1 import feature_pb2_grpc, registry_pb2_grpc, trainer_pb2, trainer_pb2_grpc

START_S = 60.0
JOB_S = 240.0
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
_STUBS = {
    "registry": registry_pb2_grpc.RegistryServiceStub,
    "feature": feature_pb2_grpc.FeatureServiceStub,
    "trainer": trainer_pb2_grpc.TrainerServiceStub,
}
ENDED = {
    trainer_pb2.JOB_STATE_SUCCEEDED, trainer_pb2.JOB_STATE_FAILED, trainer_pb2.JOB_STATE_DECLINED,
    trainer_pb2.JOB_STATE_CANCELLED,
}  # fmt: skip


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Program:
    """A running service."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def kill(self) -> None:
        """As the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        await asyncio.wait_for(self.process.wait(), 10)

    async def stop(self) -> None:
        """As an operator would."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 20)
            except TimeoutError:
                await self.kill()


@dataclass
class Platform:
    """What a test of the trainer talks to."""

    home: Path
    config: ServiceConfig
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in _STUBS})
    programs: dict[str, Program] = field(default_factory=dict)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.objects: Objects = open_objects(self.config)
        self.bus = Bus(self.config)
        self.token = self.config.secret("admin_token", "admin-token")

    def environment(self, **more: str) -> dict[str, str]:
        """What the programs are told."""
        addresses = {f"PERENNIAL_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in self.ports.items()}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {
            **inherited, **addresses,
            "PERENNIAL_NAMESPACE": self.config.namespace, "PERENNIAL_SECRETS_DIR": str(self.config.secrets_dir),
            "PERENNIAL_DATA_DIR": str(self.home), "PERENNIAL_METRICS_PORT": "0", "OMP_NUM_THREADS": "1",
            "PERENNIAL_TRAINER__LEASE_S": "2", "PERENNIAL_TRAINER__RETRY_S": "0.5", "PERENNIAL_TRAINER__FOLDS": "3",
            "PERENNIAL_KAFKA_PARTITIONS": "1", **more,
        }  # fmt: skip

    async def start(self, name: str, **more: str) -> Program:
        """Start a service and wait until it answers."""
        log = self.home / f"{name}.log"
        environment = self.environment(**more) | {f"PERENNIAL_{name.upper()}__PORT": str(self.ports[name])}
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{name}", stdout=out, stderr=out, env=environment,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
        self.programs[name] = Program(name, process, log)
        if name not in self.channels:
            self.channels[name] = grpc.aio.insecure_channel(f"127.0.0.1:{self.ports[name]}", options=_RECONNECT)
        ready = asyncio.create_task(asyncio.wait_for(self.channels[name].channel_ready(), START_S))
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        assert ready.done(), f"{name} ended: {log.read_text()[-3000:]}"
        await ready
        return self.programs[name]

    async def stop(self) -> None:
        """Stop everything."""
        for channel in self.channels.values():
            await channel.close()
        for program in self.programs.values():
            await program.stop()
        await self.bus.close()

    async def call(self, service: str, method: str, request: Any, timeout: float = 60.0, token: str = "") -> Any:
        """One call by the admin; waits for a program that is being restarted; failures are the platform's errors."""
        stub = _STUBS[service](self.channels[service])
        metadata = (("authorization", f"Bearer {token or self.token}"),)
        try:
            return await getattr(stub, method)(request, timeout=timeout, metadata=metadata, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise from_status(error.code().name, error.details() or "") from None

    async def watched(self, key: str, until: Any = None, timeout: float = JOB_S) -> list[trainer_pb2.Job]:
        """Every state of a job that WatchJob gave, until it ended or ``until`` holds."""
        stub = trainer_pb2_grpc.TrainerServiceStub(self.channels["trainer"])
        metadata = (("authorization", f"Bearer {self.token}"),)
        found = []
        call = stub.WatchJob(trainer_pb2.WatchJobRequest(job_id=key), timeout=timeout, metadata=metadata, wait_for_ready=True)
        try:
            async for answer in call:
                found.append(answer.job)
                if until is not None and until(answer.job):
                    call.cancel()
                    break
        except grpc.aio.AioRpcError as error:
            raise from_status(error.code().name, error.details() or "") from None
        return found

    async def finished(self, key: str) -> trainer_pb2.Job:
        """The job as it ended."""
        return (await self.watched(key))[-1]

    async def put(self, folder: str, data: bytes, suffix: str = ".parquet") -> tuple[str, str]:
        """Store bytes by content: their key and digest."""
        digest = hashlib.sha256(data).hexdigest()
        key = f"{folder}/{digest}{suffix}"
        await self.objects.put(key, data)
        return key, digest

    async def manifest(self, deployment: str, files: list[dict[str, Any]], **cut: Any) -> tuple[str, str]:
        """Store a snapshot's manifest."""
        data = json.dumps({"format": 1, "deployment": deployment, "cut": cut, "files": files}).encode()
        return await self.put(f"log/{deployment}/snapshots", data, ".json")

    async def publish(self, event: Event) -> None:
        """Say something on Kafka."""
        await self.bus.publish(event)

    async def heard(self, topic: topics.Topic, count: int, wanted: Any, timeout: float = 30.0) -> list[Received]:
        """The first ``count`` events of a topic that are ``wanted``, from its beginning."""
        found: list[Received] = []
        async with asyncio.timeout(timeout):
            async for event in self._events(topic):
                if wanted(event):
                    found.append(event)
                    if len(found) == count:
                        break
        return found

    async def _events(self, topic: topics.Topic) -> AsyncIterator[Received]:
        consumer = self.bus.consumer([topic], group=None, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async for record in consumer:
                yield received(record, topic=topic.name)
        finally:
            await consumer.stop()
