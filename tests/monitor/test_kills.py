"""Whatever is killed when, every row is counted once: the ledger, the blocks and the log are exact."""  # F01, F02

import asyncio
import io
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from perennial.errors import Unavailable
from perennial.testing.platform import ServiceProcess
from perennial.testing.plugin import StartService
from perennial.v1 import monitor_pb2 as api

from services.monitor.domain.time import HOUR_US
from tests.monitor.world import T0, Deployed, World

POINTS = [
    "monitor.before_effects:1",
    "transaction.before_commit:2",
    "transaction.after_commit:2",
    "monitor.after_commit:1",
    "monitor.after_closing:1",
    "monitor.log_files_written:1",
]
HOURS, ROWS = 6, 30


async def _traffic(d: Deployed, start: int, stop: int) -> None:
    """Hours of predictions and outcomes; what the dead monitor cannot take is repeated until it can."""
    for hour in range(start, stop):
        us = T0 + hour * HOUR_US
        ids, predicted = await d.predict(us, ROWS)
        await d.progress(us + HOUR_US)
        await _recorded(d, ids, predicted, us)


async def _recorded(d: Deployed, ids: list[str], predicted: Any, us: int) -> None:
    while True:
        try:
            await d.record(ids, predicted + 1.0, us + HOUR_US - 1, watermark_us=us + HOUR_US)
        except Unavailable:
            await asyncio.sleep(0.1)
        else:
            return


async def _exact(world: World, d: Deployed, rows: int) -> api.LedgerLine:
    """The ledger, the blocks and a snapshot of the log hold exactly the rows that were sent."""
    await d.settle(T0 + rows // ROWS * HOUR_US, 60)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.late, line.missing, line.dropped, line.dead_lettered) == (rows, 0, 0, 0, 0)
    assert line.outcomes == rows
    panes = await world.database.fetchval("select sum(rows) from panes where deployment = $1", d.name)
    blocks = await world.database.fetchrow("select sum(count) n from blocks where deployment = $1", d.name)
    assert (int(panes), int(blocks["n"])) == (rows, rows)
    request = api.TakeSnapshotRequest(deployment=d.name, request_id="cut")
    snapshot = (await world.call("TakeSnapshot", request, 60)).snapshot
    manifest = orjson.loads(await world.objects.get(snapshot.manifest_key))
    for kind in ("predictions", "outcomes"):
        tables = [pq.read_table(io.BytesIO(await world.objects.get(f["key"]))) for f in manifest["files"] if f["kind"] == kind]
        found = [n for table in tables for n in table.column("n").to_pylist()]
        assert sorted(found) == list(range(1, rows + 1)), kind
    found_line: api.LedgerLine = line
    return found_line


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_between_durable_steps_loses_and_doubles_nothing(
    outside: World, service_process: StartService, point: str
) -> None:
    """The process dies at the named point, as by kill -9; another takes over, and every figure is exact."""
    monitor: ServiceProcess = await service_process("monitor")
    d = await outside.deployed()
    await _traffic(d, 0, 1)
    await d.settle(T0 + HOUR_US, 60)
    await monitor.stop()
    ids, predicted = await d.predict(T0 + HOUR_US, ROWS)
    await d.progress(T0 + 2 * HOUR_US)
    await monitor.start(PERENNIAL_CRASH_AT=point, PERENNIAL_MONITOR__LOG_INTERVAL_S="1")
    first = asyncio.create_task(_recorded(d, ids, predicted, T0 + HOUR_US))
    async with asyncio.timeout(60):
        await monitor.ended()
    await monitor.start(PERENNIAL_CRASH_AT="")
    await first
    await _traffic(d, 2, HOURS)
    line = await _exact(outside, d, HOURS * ROWS)
    if point.startswith("monitor.after_commit"):
        assert line.repeats > 0, "nothing was read twice, so nothing was proved"


async def test_kill_minus_nine_under_load_loses_and_doubles_nothing(outside: World, service_process: StartService) -> None:
    """Three kills at no particular moment while batches are re-sent with other boundaries."""
    monitor = await service_process("monitor")
    d = await outside.deployed()
    traffic = asyncio.create_task(_traffic(d, 0, 3 * HOURS))
    for _ in range(3):
        await asyncio.sleep(0.7)
        await monitor.kill()
        await monitor.start(PERENNIAL_CRASH_AT="")
    await traffic
    await _exact(outside, d, 3 * HOURS * ROWS)
