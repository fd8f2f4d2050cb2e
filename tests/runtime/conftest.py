"""What the runtime's tests share: a service made of the echo servicer, on the stack the environment names."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from perennial.runtime import secrets
from perennial.runtime.config import ServiceConfig
from perennial.runtime.service import Runtime
from perennial.testing.stack import RunningStack

from tests.runtime.echo import SERVICE, Echo, EchoResponse

NAMESPACE = f"rt{uuid.uuid4().hex[:6]}"


class TrialConfig(ServiceConfig):
    """A service of its own for tests."""

    service = "trial"


@pytest.fixture(scope="session")
def secrets_dir(tmp_path_factory: pytest.TempPathFactory, stack: RunningStack) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    secrets.ensure(folder)
    return folder


@dataclass
class Trial:
    """A running service and a way to call it."""

    runtime: Runtime
    channel: Any

    @property
    def admin(self) -> tuple[tuple[str, str], ...]:
        return self.bearer(self.runtime.config.secret("admin_token", "admin-token"))

    def bearer(self, token: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {token}"),)

    def call(
        self, method: str, shape: str = "unary_unary", service: str = "tests.EchoService", answer: Any = EchoResponse
    ) -> Any:
        made = getattr(self.channel, shape)
        return made(f"/{service}/{method}", request_serializer=as_bytes, response_deserializer=answer.FromString)


def as_bytes(message: Any) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


Start = Callable[..., Awaitable[Trial]]


@pytest.fixture
async def start(secrets_dir: Path, tmp_path: Path) -> AsyncIterator[Start]:
    """Makes running services: of an act, what else to build, a name and settings."""
    running: list[Trial] = []

    async def make(act: Any, *, build: Any = None, service: str = "", **settings: Any) -> Trial:
        config: Any = type("OneConfig", (TrialConfig,), {"service": service or f"s{uuid.uuid4().hex[:8]}", "__annotations__": {}})
        given = {"namespace": NAMESPACE, "kafka_partitions": 2, "secrets_dir": secrets_dir, "port": 0, "data_dir": tmp_path}
        runtime = Runtime(config.load(**{**given, **settings}))

        async def put_together(made: Runtime) -> None:
            made.add_servicer(Echo(act), SERVICE)
            if build is not None:
                await build(made)

        await runtime.start(put_together)
        trial = Trial(runtime, grpc.aio.insecure_channel(f"127.0.0.1:{runtime.port}"))
        running.append(trial)
        return trial

    yield make
    for trial in running:
        await trial.channel.close()
        await trial.runtime.stop()
