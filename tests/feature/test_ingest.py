"""Feature rows from Kafka: the same path as over gRPC, and nothing lost that could not be stored."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from perennial.frames import decode
from perennial.runtime.bus import Outgoing
from perennial.runtime.events import Event, headers_of
from perennial.topics import FEATURES
from perennial.v1 import feature_pb2 as pb
from perennial.v1.events_pb2 import FeatureRows, StreamProgress

from tests.feature.caller import Feature
from tests.feature.flights import MINUTE, T0, landing, landings, rows_of, selection


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 30) -> Any:
    """What ``condition`` gives once it is true."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def view(feature: Feature) -> str:
    """A view nobody else uses."""
    name = f"landings_{secrets.token_hex(4)}"
    await asyncio.wait_for(feature.runtime.topics_there.wait(), 60)
    await feature.call("RegisterFeatureView", pb.RegisterFeatureViewRequest(view=landings(name)))
    return name


async def produce(feature: Feature, message: Any, *, key: str = "BOS") -> Event:
    """Send a message of events.proto."""
    event = Event(FEATURES, key, message)
    headers = headers_of(event, source="test")
    await feature.runtime.bus.produce(FEATURES, key=key.encode(), value=message.SerializeToString(), headers=headers)
    return event


def feature_rows(view: str, rows: list[dict[str, Any]], stream: str, first: int) -> FeatureRows:
    """The event of these rows."""
    part = rows_of(view, rows)
    return FeatureRows(
        stream=stream, first_n=first, view=view, rows=part.rows, event_times_us=part.event_times_us, known_at_us=part.known_at_us
    )


async def last(feature: Feature, view: str, t: int) -> float:
    """The last air time into Boston before t."""
    request = pb.ReadOnlineRequest(selections=[selection(view, ["BOS"], ["last_air_time"])], times_us=[t])
    return float(decode((await feature.call("ReadOnline", request)).features).column("last_air_time")[0])


async def dead(feature: Feature, event_id: str) -> Any:
    """The dead-lettered record of an event."""
    consumer = feature.runtime.bus.consumer([FEATURES.dlq], group=None)
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            async for record in consumer:
                if dict(record.headers)["ce_id"] == event_id.encode():
                    return record
    finally:
        await consumer.stop()


async def test_rows_from_the_topic_are_stored_once(feature: Feature, view: str) -> None:
    """FS-08: an event that comes twice, also with other boundaries, is stored once and read like any other."""
    rows = [landing("BOS", T0 + minute * MINUTE, float(minute)) for minute in (1, 2, 3)]
    await produce(feature, feature_rows(view, rows[:2], f"p-{view}", 1))
    await produce(feature, feature_rows(view, rows, f"p-{view}", 1))

    async def stored() -> bool:
        return await last(feature, view, T0 + 10 * MINUTE) == 3.0

    await until(stored)
    count = "select e.rows from entities e join views v on v.id = e.view_id where v.name = $1"
    assert await feature.runtime.postgres.fetchval(count, view) == 3


async def test_a_json_producer_is_understood(feature: Feature, view: str) -> None:
    """Outside producers may send the same message as JSON with plain rows."""
    body = {
        "stream": f"json-{view}", "firstN": "1", "view": view, "eventTimesUs": [str(T0)], "knownAtUs": [str(T0)],
        "rows": {"plain": {"rows": [{"dest": "BOS", "air_time": 61.5, "distance": 190, "carrier": "B6"}]}},
    }  # fmt: skip
    headers = [
        ("ce_id", view.encode()),
        ("ce_type", b"FeatureRows"),
        ("ce_source", b"outside"),
        ("content-type", b"application/json"),
    ]
    await feature.runtime.bus.produce(FEATURES, key=b"BOS", value=json.dumps(body).encode(), headers=headers)

    async def stored() -> bool:
        return await last(feature, view, T0 + MINUTE) == 61.5

    await until(stored)


async def test_bad_rows_are_kept_aside_and_good_ones_stored(feature: Feature, view: str) -> None:
    """The event goes to the dead letter with its bytes and the rows at fault; its good rows are stored, its replay harmless."""
    rows = [landing("BOS", T0, 10.0), landing("BOS", T0 + MINUTE, -1.0), landing("BOS", T0 + 2 * MINUTE, 30.0)]
    message = feature_rows(view, rows, f"bad-{view}", 1)
    event = await produce(feature, message)
    record = await dead(feature, event.id)
    assert record.value == message.SerializeToString()
    reason = dict(record.headers)["dlq_reason"].decode()
    assert all(part in reason for part in (view, "row 1", "air_time"))
    assert "row 0" not in reason
    assert await last(feature, view, T0 + 10 * MINUTE) == 30.0


async def test_poison_does_not_stop_the_topic(feature: Feature, view: str) -> None:
    """Bytes that are no message, an unknown view and a frame that does not fit are dead-lettered; what follows is stored."""
    stray = feature_rows("nobody", [landing("BOS", T0, 1.0)], f"stray-{view}", 1)
    bent = feature_rows(view, [landing("BOS", T0, 1.0)], f"bent-{view}", 1)
    bent.rows.blocks.numbers = b"123"
    poison = [
        Outgoing(b"BOS", value, [("ce_id", f"{place}-{view}".encode()), ("ce_type", b"FeatureRows"), ("ce_source", b"outside")])
        for place, value in enumerate([b"\xff\xfe not protobuf", stray.SerializeToString(), bent.SerializeToString()])
    ]
    assert await feature.runtime.bus.produce_many(FEATURES, poison) == []
    await produce(feature, feature_rows(view, [landing("BOS", T0, 5.0)], f"good-{view}", 1))

    async def stored() -> bool:
        return await last(feature, view, T0 + MINUTE) == 5.0

    await until(stored)
    for place, sent in enumerate(poison):
        record = await dead(feature, f"{place}-{view}")
        assert record.value == sent.value


async def test_progress_is_noted_and_never_goes_back(feature: Feature, view: str) -> None:
    """How far a producer has come, by call or by event, only moves on."""
    request = pb.AdvanceFeaturesRequest(stream=f"a-{view}", views=[view])
    for us in (T0 + MINUTE, T0):
        request.time.FromMicroseconds(us)
        await feature.call("AdvanceFeatures", request)
    query = "select max(time_us) from progress where stream = $1"
    assert await feature.runtime.postgres.fetchval(query, f"a-{view}") == T0 + MINUTE
    await produce(feature, StreamProgress(stream=f"e-{view}", next_n=1, watermark_us=T0))

    async def noted() -> bool:
        return bool(await feature.runtime.postgres.fetchval(query, f"e-{view}") == T0)

    await until(noted)
