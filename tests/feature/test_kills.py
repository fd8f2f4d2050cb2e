"""F02: the service is killed between its durable steps; no row is lost, none is stored twice, and reads are right."""

import asyncio
from typing import Any

import grpc
import pytest
from perennial.frames import decode
from perennial.testing.platform import Platform
from perennial.testing.plugin import StartService
from perennial.v1 import feature_pb2 as pb
from perennial.v1 import feature_pb2_grpc as pb_grpc

from tests.feature.flights import MINUTE, T0, landing, landings, rows_of, selection


async def call(platform: Platform, method: str, request: Any) -> Any:
    """One call, over a connection of its own: the service may be another process every time."""
    metadata = (("authorization", f"Bearer {platform.admin_token}"),)
    async with grpc.aio.insecure_channel(platform.address("feature")) as channel:
        stub = pb_grpc.FeatureServiceStub(channel)
        return await getattr(stub, method)(request, timeout=30, metadata=metadata, wait_for_ready=True)


@pytest.mark.parametrize("repeated", [True, False], ids=["repeated", "not repeated"])
@pytest.mark.parametrize("point", ["transaction.before_commit", "transaction.after_commit", "feature.before_online"])
async def test_a_write_killed_at_any_step_is_whole_or_was_never_made(
    platform: Platform, service_process: StartService, point: str, *, repeated: bool
) -> None:
    """After a restart the online store answers what PostgreSQL holds; a repeat of the call stores what is missing."""
    view = f"killed-{point}-{repeated}".replace(".", "-")
    feature = await service_process("feature")
    await call(platform, "RegisterFeatureView", pb.RegisterFeatureViewRequest(view=landings(view)))
    first = pb.WriteFeaturesRequest(parts=[rows_of(view, [landing("BOS", T0, 1.0)])], stream=view, first_n=1)
    await call(platform, "WriteFeatures", first)
    second = pb.WriteFeaturesRequest(parts=[rows_of(view, [landing("BOS", T0 + MINUTE, 2.0)])], stream=view, first_n=2)
    await feature.restart(PERENNIAL_CRASH_AT=point)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(platform, "WriteFeatures", second)
    await feature.ended()
    await feature.restart(PERENNIAL_CRASH_AT="")
    if repeated:
        answer = await call(platform, "WriteFeatures", second)
        assert answer.stored + answer.repeated_rows == 1
    pool = await platform.pool("feature")
    query = "select e.rows from entities e join views v on v.id = e.view_id where v.name = $1"
    rows = await pool.fetchval(query, view)
    assert rows == 2 if repeated or point == "feature.before_online" else rows in {1, 2}  # another transaction may meet the point
    read = pb.ReadOnlineRequest(selections=[selection(view, ["BOS"], ["landings_2h"])], times_us=[T0 + 5 * MINUTE])
    async with asyncio.timeout(30):  # the sweep of the start may still be under way
        while decode((await call(platform, "ReadOnline", read)).features).column("landings_2h")[0] != rows:
            await asyncio.sleep(0.05)
