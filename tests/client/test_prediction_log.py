"""Does the SDK's prediction log lose anything?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from perennial.client import AsyncPredictionLog
from perennial.errors import InvalidArgument
from perennial.runtime.bus import Bus
from perennial.runtime.config import ServiceConfig
from perennial.testing.platform import Platform
from perennial.topics import PREDICTIONS
from perennial.v1.events_pb2 import PredictionBatch

DEADLINE_S = 20.0


async def positions(platform: Platform, wanted: int) -> set[str]:
    """Ids of the predictions on the topic, once there are as many as wanted."""
    bus = Bus(ServiceConfig(kafka_bootstrap=platform.servers.kafka_bootstrap, namespace=platform.namespace))
    consumer = bus.consumer([PREDICTIONS], group=None)
    await consumer.start()
    found: set[str] = set()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < wanted:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        if dict(record.headers)["ce_type"] == b"PredictionBatch":
                            batch = PredictionBatch.FromString(record.value)
                            rows = len(batch.event_times_us)
                            found |= {f"{batch.stream}-{n}" for n in range(batch.first_n, batch.first_n + rows)}
    finally:
        await consumer.stop()
        await bus.close()
    return found


async def test_what_was_logged_arrives_even_from_a_log_that_died(platform: Platform, tmp_path: Path) -> None:
    """A log that never closed leaves its rows on the disk; the next one sends them under their own ids."""  # SRV-20
    dead = AsyncPredictionLog("shop", "1.0.0", spool=tmp_path, env_file=platform.env_file)
    await dead.__aenter__()
    for task in dead._tasks:  # it dies before it has sent anything
        task.cancel()
    lost = await dead.log({"x": [1.0, 2.0], "t": ["a", None]}, {"prediction": [3.0, 4.0]}, entity_keys=["k1", "k2"])
    dead._spool.release()
    async with AsyncPredictionLog("shop", "1.0.0", spool=tmp_path, env_file=platform.env_file) as log:
        ids = await log.log([{"x": 5.0, "t": "b"}], [{"prediction": 6.0}])
        await log.flush()
        assert await positions(platform, 3) == {*lost, *ids}


async def test_other_columns_than_before_are_refused(platform: Platform, tmp_path: Path) -> None:
    """A log has one set of columns: another is a mistake, or another version."""
    async with AsyncPredictionLog("shop", "1.0.0", spool=tmp_path, env_file=platform.env_file) as log:
        await log.log([{"x": 5.0}], [{"prediction": 6.0}])
        with pytest.raises(InvalidArgument, match="others before"):
            await log.log([{"y": 5.0}], [{"prediction": 6.0}])
        with pytest.raises(InvalidArgument, match="2 rows and 1 outputs"):
            await log.log([{"x": 5.0}, {"x": 6.0}], [{"prediction": 6.0}])
