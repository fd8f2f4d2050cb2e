"""A real registry on the development stack, in a namespace of its own, spoken to over gRPC."""

import secrets as randomness
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from perennial.errors import from_status
from perennial.runtime import secrets
from perennial.runtime.service import Runtime
from perennial.runtime.tokens import ServiceKey, audience_of
from perennial.testing.stack import RunningStack
from perennial.v1 import registry_pb2 as pb
from perennial.v1 import registry_pb2_grpc as pb_grpc

from services.registry.__main__ import MIGRATIONS, build
from services.registry.config import RegistryConfig
from tests.registry.packages import upload


@dataclass
class Registry:
    """A registry and callers of every kind."""

    runtime: Runtime
    channel: grpc.aio.Channel

    def token(self, caller: str) -> str:
        """The admin's token, or a service's (``service:trainer``)."""
        config = self.runtime.config
        if caller == "admin":
            return str(config.secret("admin_token", "admin-token"))
        key = ServiceKey(config.secret("service_key", "service-key"))
        return key.token(caller.removeprefix("service:"), audience=audience_of(config))

    async def call(self, method: str, request: Any, *, by: str = "admin", token: str = "") -> Any:
        """One unary call; the platform's errors as they are at home."""
        stub = pb_grpc.RegistryServiceStub(self.channel)
        metadata = (("authorization", f"Bearer {token or self.token(by)}"),)
        try:
            return await getattr(stub, method)(request, timeout=20, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_status(error.code().name, error.details() or "") from None

    async def register(self, name: str, *, by: str = "service:trainer", token: str = "", **options: Any) -> pb.ModelVersion:
        """Register a small version; see :func:`tests.registry.packages.upload` for what may be different."""
        answer = await self.call("RegisterModelVersion", upload(name, **options), by=by, token=token)
        version: pb.ModelVersion = answer.model_version
        return version

    async def key(self, name: str, *roles: str) -> str:
        """The text of a new API key."""
        answer = await self.call("CreateApiKey", pb.CreateApiKeyRequest(name=name, roles=roles))
        return str(answer.text)


@pytest.fixture(scope="session")
def namespace() -> str:
    """A namespace nobody else has."""
    return f"t{randomness.token_hex(4)}"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, stack: RunningStack) -> Path:
    """A folder with the platform's secrets."""
    folder = tmp_path_factory.mktemp("registry")
    secrets.ensure(folder / "secrets")
    return folder


@pytest.fixture(scope="session")
async def registry(namespace: str, home: Path) -> AsyncIterator[Registry]:
    """The registry under test."""
    config = RegistryConfig.load(port=0, metrics_port=0, namespace=namespace, data_dir=home, secrets_dir=home / "secrets")
    runtime = Runtime(config)
    await runtime.start(build, migrations=MIGRATIONS)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{runtime.port}") as channel:
        yield Registry(runtime, channel)
    await runtime.stop()
    assert config.database_url is not None
    connection = await asyncpg.connect(config.database_url.get_secret_value())
    await connection.execute(f'drop schema "{config.schema_name}" cascade')
    await connection.close()


@pytest.fixture
def model() -> str:
    """A model's name that no other test uses."""
    return f"m-{randomness.token_hex(5)}"


