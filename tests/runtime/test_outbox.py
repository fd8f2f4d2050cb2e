"""What was committed is published: not lost by a kill, in order, and repeated only under the same id."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from perennial import topics
from perennial.runtime.bus import Bus
from perennial.runtime.kafka import ensure_topics, started

from tests.runtime.conftest import NAMESPACE
from tests.runtime.program import Config


@pytest.fixture
async def settings(secrets_dir: Path, request: pytest.FixtureRequest) -> Config:
    """A namespace of its own, so that a killed program's rows are this test's."""
    settings = Config.load(
        namespace=f"{NAMESPACE}k{abs(hash(request.node.name)) % 1000}", kafka_partitions=2, secrets_dir=secrets_dir
    )
    await ensure_topics(settings, [topics.MONITORING, topics.AUDIT])
    return settings


@pytest.fixture
async def tables(settings: Config) -> AsyncIterator[Any]:
    """The program's schema."""
    assert settings.database_url is not None
    session = {"search_path": settings.schema_name}
    connection = await asyncpg.connect(settings.database_url.get_secret_value(), server_settings=session)
    yield connection
    await connection.close()


async def empty(tables: Any) -> None:
    """Wait until a relay has sent everything; a killed one's lease has to run out first."""
    async with asyncio.timeout(30):
        while await tables.fetchval("select count(*) from outbox"):
            await asyncio.sleep(0.1)


async def lived(settings: Config, events: int, crash_at: str = "", emptied: Awaitable[None] | None = None) -> int:
    """One life of the program: killed when its crash point comes, else stopped once it has published (and sent) all."""
    environment = {
        **os.environ, "PERENNIAL_NAMESPACE": settings.namespace, "PERENNIAL_PORT": "0", "EVENTS": str(events),
        "PERENNIAL_SECRETS_DIR": str(settings.secrets_dir), "PERENNIAL_CRASH_AT": crash_at, "PERENNIAL_KAFKA_PARTITIONS": "2",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.runtime.program", env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        if line and not crash_at:
            if emptied is not None:
                await emptied
            process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(process.wait(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def on_topic(settings: Config) -> list[tuple[str, int]]:
    """Event ids and versions on the topic, in order."""
    bus = Bus(settings)
    consumer = bus.consumer([topics.MONITORING], group=None)
    found = []
    try:
        await started(consumer)
        for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(partition, timeout_ms=500)).get(partition, ()):
                    headers = dict(record.headers)
                    found.append((headers["ce_id"].decode(), int(headers["ce_aggregateversion"])))
    finally:
        await consumer.stop()
        await bus.close()
    return found


@pytest.mark.parametrize(
    "point",
    [
        "outbox.after_send:1",
        "outbox.after_send:3",
        "outbox.after_delete:2",
        "transaction.before_commit:4",
        "transaction.after_commit:5",
    ],
)  # F02
async def test_a_kill_loses_nothing_and_repeats_keep_their_id(settings: Config, tables: Any, point: str) -> None:
    """Killed at a durable step: every committed event is on the topic, and what is there twice has one id."""
    assert await lived(settings, 20, point) == -signal.SIGKILL
    committed = {row["id"]: row["n"] for row in await tables.fetch("select id, n from published")}
    assert await lived(settings, 0, emptied=empty(tables)) == 0
    sent = await on_topic(settings)
    assert set(committed.items()) == set(sent)
    assert await tables.fetchval("select count(*) from outbox") == 0
    firsts = list(dict.fromkeys(version for _, version in sent))
    assert firsts == sorted(firsts), "the order of an aggregate's events"


async def test_a_program_stops_with_its_outbox_empty(settings: Config, tables: Any) -> None:
    """SIGTERM right after the last commit: what was committed is sent before the end."""
    assert await lived(settings, 50) == 0
    assert len(await on_topic(settings)) == 50
    assert await tables.fetchval("select count(*) from outbox") == 0
