"""A real monitor on the development stack, in a namespace of its own, with a producer that speaks as serving does."""

import secrets as randomness
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import grpc
import pytest
from perennial.runtime.service import Runtime
from perennial.testing.stack import RunningStack

from services.monitor.__main__ import MIGRATIONS, build
from services.monitor.config import MonitorConfig

sys.path.insert(0, str(Path(__file__).parent))  # the world lies beside the tests that live in it

from world import World


@pytest.fixture(scope="module")
async def world(stack: RunningStack) -> AsyncIterator[World]:
    config = MonitorConfig(
        namespace=f"monitor-{randomness.token_hex(4)}", port=0, metrics_port=0, kafka_partitions=2, log_interval_s=5.0
    )
    runtime = Runtime(config)
    await runtime.start(build, migrations=MIGRATIONS)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{runtime.port}")
    made = World(runtime, channel, config.secret("admin_token", "admin-token"))
    try:
        yield made
    finally:
        await channel.close()
        await made.close()
        await runtime.stop()
        connection = await asyncpg.connect(config.database_url.get_secret_value())
        await connection.execute(f'drop schema "{config.schema_name}" cascade')
        await connection.close()
