"""The straight line: predictions and outcomes become blocks, a decision, a snapshot and a request."""

import time
from typing import Any

import orjson
from perennial.topics import RETRAINING
from perennial.v1 import monitor_pb2 as api

from services.monitor.domain.time import DAY_US, HOUR_US
from tests.monitor.world import T0, World


async def test_an_hour_is_counted_joined_and_settled(world: World) -> None:  # MON-02, MON-14
    """Settle returns when everything up to its instant is folded and joined, and the ledger says so exactly."""
    d = await world.deployed()
    for hour in range(3):
        await d.hour(T0 + hour * HOUR_US, settle=True)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.outcomes, line.late, line.repeats, line.missing) == (120, 120, 0, 0, 0)


async def test_a_bias_asks_for_a_retraining_on_a_written_snapshot(world: World) -> None:  # MON-06, TRN-30
    """A shift of the residual by a sigma of a row is seen by the chart; the request names a log that holds every row."""
    d = await world.deployed()
    decisions: list[str] = []
    day, took = 0, []
    while not decisions and day < 12:
        for hour in range(0, 24, 4):
            await d.hour(T0 + day * DAY_US + hour * HOUR_US, bias=5.0)
        end = T0 + (day + 1) * DAY_US
        await d.progress(end)
        await d.record([], [], end, watermark_us=end)
        began = time.monotonic()
        decisions = list((await d.settle(end)).open_decisions)
        took.append(time.monotonic() - began)
        day += 1
    assert decisions, "the chart never alarmed"
    sent = await world.events(RETRAINING, 1, deployment=d.name)
    messages: list[Any] = [event.message for event in sent]
    requested = next(message for message in messages if message.decision_id == decisions[0])
    assert requested.trigger == "performance"
    assert requested.snapshot.rows == day * 6 * 40 == requested.snapshot.outcomes
    manifest = orjson.loads(await world.objects.get(requested.snapshot.manifest_key))
    assert sum(f["rows"] for f in manifest["files"] if f["kind"] == "predictions") == requested.snapshot.rows
    answer = await world.call("ListDecisions", api.ListDecisionsRequest(deployment=d.name, requested_only=True))
    assert [x.state for x in answer.decisions] == ["released"]
