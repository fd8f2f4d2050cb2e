"""A real feature service on the development stack, in a namespace of its own, spoken to over gRPC."""

import secrets as randomness
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from perennial.runtime.service import Runtime
from perennial.testing.stack import RunningStack
from perennial.v1 import feature_pb2_grpc as pb_grpc

from services.feature.__main__ import MIGRATIONS, build
from services.feature.config import FeatureConfig
from tests.feature.caller import Feature


@pytest.fixture(scope="session")
def namespace() -> str:
    """A namespace nobody else has."""
    return f"feature-{randomness.token_hex(4)}"


@pytest.fixture(scope="session")
async def feature(stack: RunningStack, namespace: str) -> AsyncIterator[Feature]:
    """The service under test."""
    assert stack.env_file
    config = FeatureConfig(namespace=namespace, port=0, metrics_port=0, kafka_partitions=2)
    runtime = Runtime(config)
    await runtime.start(build, migrations=MIGRATIONS)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{runtime.port}")
    try:
        yield Feature(runtime, pb_grpc.FeatureServiceStub(channel), config.secret("admin_token", "admin-token"))
    finally:
        await channel.close()
        await _dropped(runtime)


async def _dropped(runtime: Runtime) -> None:
    """Stop, and leave nothing in the shared servers."""
    config = runtime.config
    async for key in runtime.redis.scan_iter(match=config.redis_key("*"), count=1000):
        await runtime.redis.delete(key)
    await runtime.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=config.kafka_bootstrap)
    await admin.start()
    await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(f"{config.namespace}.")])
    await admin.close()
    connection = await asyncpg.connect(config.database_url.get_secret_value())
    await connection.execute(f'drop schema "{config.schema_name}" cascade')
    await connection.close()
