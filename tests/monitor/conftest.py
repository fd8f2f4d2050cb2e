"""A real monitor on the development stack, in a namespace of its own, with a producer that speaks as serving does."""

import os
import secrets as randomness
from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from perennial.runtime.bus import Bus
from perennial.runtime.kafka import connection_settings
from perennial.runtime.objects import open_objects
from perennial.runtime.service import Runtime
from perennial.testing.platform import Platform
from perennial.testing.stack import RunningStack
from perennial.topics import TOPICS

from services.monitor.__main__ import MIGRATIONS, build
from services.monitor.config import MonitorConfig
from tests.monitor.world import World


@pytest.fixture(scope="module")
async def world(stack: RunningStack) -> AsyncIterator[World]:
    config = MonitorConfig(
        namespace=f"monitor-{randomness.token_hex(4)}", port=0, metrics_port=0, kafka_partitions=2, log_interval_s=5.0
    )
    runtime = Runtime(config)
    await runtime.start(build, migrations=MIGRATIONS)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{runtime.port}")
    made = World(runtime.bus, runtime.objects, runtime.postgres, channel, config.secret("admin_token", "admin-token"))
    try:
        yield made
    finally:
        await channel.close()
        await runtime.stop()
        await _topics_dropped(config)
        assert config.database_url is not None
        connection = await asyncpg.connect(config.database_url.get_secret_value())
        await connection.execute(f'drop schema "{config.schema_name}" cascade')
        await connection.close()


async def _topics_dropped(config: MonitorConfig) -> None:
    admin = AIOKafkaAdminClient(request_timeout_ms=30_000, **connection_settings(config))
    await admin.start()
    try:
        await admin.delete_topics([config.prefixed(topic.name) for topic in TOPICS])
    finally:
        await admin.close()


@pytest.fixture(scope="module")
async def outside(platform: Platform) -> AsyncIterator[World]:
    """The world around a monitor that runs as a process of its own and may be killed."""
    before = os.environ.get("PERENNIAL_ENV_FILE", "")
    os.environ["PERENNIAL_ENV_FILE"] = str(platform.env_file)
    config = MonitorConfig()
    os.environ["PERENNIAL_ENV_FILE"] = before
    bus = Bus(config)
    channel = grpc.aio.insecure_channel(platform.address("monitor"))
    made = World(bus, open_objects(config), await platform.pool("monitor"), channel, platform.admin_token)
    try:
        yield made
    finally:
        await channel.close()
        await bus.close()
