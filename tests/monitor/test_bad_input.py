"""What is wrong, late, early, twice or foreign: nothing stops, nothing is counted twice, and the ledger says what happened."""

import json

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from perennial.errors import InvalidArgument, NotFound
from perennial.runtime.bus import Outgoing
from perennial.runtime.events import Event, headers_of
from perennial.topics import OUTCOMES, PREDICTIONS
from perennial.v1 import events_pb2 as pb
from perennial.v1 import monitor_pb2 as api

from services.monitor.domain.time import DAY_US, HOUR_US
from tests.monitor.world import T0, Deployed, World, inputs_of


async def _settled(d: Deployed, hour: int) -> None:
    end = T0 + hour * HOUR_US
    await d.progress(end)
    await d.record([], [], end, watermark_us=end)
    await d.settle(end)


async def test_repeats_with_other_boundaries_count_once(world: World) -> None:  # F01
    """Rows 1–40, then 21–60 again with other boundaries: sixty rows, twenty repeats."""
    d = await world.deployed()
    inputs = inputs_of(60, 3)
    times = [T0 + i * 1_000_000 for i in range(60)]
    index = np.arange(60)
    await d.send(d.batch(1, times[:40], inputs.take(index[:40])))
    await d.send(d.batch(21, times[20:], inputs.take(index[20:])))
    d.next_n = 61
    await _settled(d, 1)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.repeats, line.missing) == (60, 20, 0)


async def test_a_poison_batch_opens_a_dead_lettered_gap_that_its_replay_fills(world: World) -> None:  # F08
    """Bytes that are no message go to the dead letter; sent again whole, their rows are counted and the gap closes."""
    d = await world.deployed()
    good = d.batch(1, [T0 + i for i in range(10)], inputs_of(10, 1))
    poison = d.batch(11, [T0 + i for i in range(5)], inputs_of(5, 2))
    after = d.batch(16, [T0 + i for i in range(5)], inputs_of(5, 3))
    await d.send(good)
    event = Event(PREDICTIONS, d.stream, poison, subject=d.name, rows=5)
    headers = [*headers_of(event, source="test"), ("ce_stream", d.stream.encode()), ("ce_firstn", b"11")]
    await world.bus.produce_many(PREDICTIONS, [Outgoing(d.stream.encode(), b"\xff" + poison.SerializeToString(), headers)])
    await d.send(after)
    d.next_n = 21
    await _settled(d, 1)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.dead_lettered, line.missing) == (15, 5, 0)
    await d.send(poison)
    await _settled(d, 2)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.dead_lettered) == (20, 0)


async def test_a_jump_is_missing_until_it_is_filled_and_dropped_when_the_producer_says_so(world: World) -> None:
    """Rows 11–15 never come: missing; the producer's StreamGap for 21–25: dropped."""
    d = await world.deployed()
    await d.send(d.batch(1, [T0] * 10, inputs_of(10, 1)))
    await d.send(d.batch(16, [T0] * 5, inputs_of(5, 2)))
    gap = pb.StreamGap(
        stream=d.stream, from_n=21, to_n=25, reason="disk-full", deployment=d.name, version="1.0.0", variant="champion"
    )
    await world.send(PREDICTIONS, d.stream, gap)
    d.next_n = 26
    await _settled(d, 1)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.missing, line.dropped) == (15, 5, 5)
    await d.send(d.batch(9, [T0] * 8, inputs_of(8, 3)))
    await _settled(d, 2)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.missing, line.dropped, line.repeats) == (20, 0, 5, 3)


async def test_rows_for_a_closed_window_are_late_and_joined_all_the_same(world: World) -> None:
    """A day closes; a row of it that comes after is late in the ledger, and its outcome still counts."""
    d = await world.deployed()
    for hour in range(0, 24, 2):
        await d.hour(T0 + hour * HOUR_US, 40)
    await _settled(d, 24)
    reports = (await world.call("ListDriftReports", api.ListDriftReportsRequest(deployment=d.name))).reports
    assert [r.rows for r in reports] == [480]
    ids, predicted = await d.predict(T0 + HOUR_US, 7)
    await d.record(ids, predicted, T0 + DAY_US + 1)
    await _settled(d, 25)
    line = (await d.ledger())["1.0.0", "champion"]
    assert (line.counted, line.late, line.outcomes) == (480, 7, 487)


async def test_outcomes_first_revisions_and_strangers(world: World) -> None:
    """An outcome before its prediction waits; a revision changes the figures of the first value's block; one that matches
    nothing is counted as unmatched; a repeat of a position changes nothing.
    """
    d = await world.deployed()
    first = d.next_n
    ids = [f"{d.stream}-{first + i}" for i in range(4)]
    await d.record(ids, [100.0] * 4, T0 + 1)
    await d.record([f"{'0' * 24}.0-7"], [1.0], T0 + 1)
    await d.send(d.batch(first, [T0] * 4, inputs_of(4, 1), [90.0] * 4))
    d.next_n += 4
    await _settled(d, 1)

    async def block() -> api.PerformanceBlock:
        answer = await world.call("ListPerformance", api.ListPerformanceRequest(deployment=d.name))
        found: api.PerformanceBlock = next(b for b in answer.blocks if b.count)
        return found

    found = await block()
    assert (found.count, found.figures["mae"]) == (4, 10.0)
    await d.record(ids[:2], [94.0, 94.0], T0 + 2 * DAY_US, revision=1)
    await d.record(ids[:1], [0.0], T0 + 2 * DAY_US, revision=0)
    await _settled(d, 2)
    found = await block()
    assert (found.count, found.figures["mae"], found.start.ToSeconds()) == (4, 7.0, T0 // 1_000_000)
    answer = await world.call("GetLedger", api.GetLedgerRequest(deployment=d.name))
    assert answer.unmatched_outcomes == 1
    d.next_outcome = 1
    await d.record(ids, [500.0] * 4, T0 + 1)
    await _settled(d, 3)
    assert (await block()).figures["mae"] == 7.0


async def test_a_bad_outcome_row_goes_to_the_dead_letter_alone(world: World) -> None:  # F08
    """One id that is none among good rows: the good ones count, the bad one is in the dead letter with its reason."""
    d = await world.deployed()
    ids, predicted = await d.predict(T0, 3)
    from perennial.frames import Text, encode_text

    batch = pb.OutcomeBatch(
        stream=f"{d.name}/direct", first_n=1, deployment=d.name,
        prediction_ids=encode_text(Text.of([ids[0], "nonsense", ids[2]])),
        numbers=np.asarray(predicted, dtype="<f8").tobytes(), known_at_us=[T0 + 1],
    )  # fmt: skip
    await world.send(OUTCOMES, "direct", batch)
    await _settled(d, 1)
    assert (await d.ledger())["1.0.0", "champion"].outcomes == 2
    dead = await world.events(OUTCOMES.dlq, 1, deployment=d.name)
    assert b"nonsense" in dead[0].headers["dlq_reason"]


async def test_a_foreign_producer_in_json_is_counted_once_by_its_own_ids(world: World) -> None:  # MON-02
    """confluent-kafka, JSON, no library of ours: ids, a repeat, an outcome before its prediction."""
    from confluent_kafka import Producer

    d = await world.deployed(foreign=True)
    config = world.bus.config
    producer = Producer({"bootstrap.servers": config.kafka_bootstrap})

    def say(topic: str, kind: str, ce_id: str, body: dict[str, object]) -> None:
        headers: dict[str, str | bytes | None] = {"ce_type": kind, "ce_id": ce_id, "content-type": "application/json"}
        producer.produce(
            config.prefixed(topic), key=b"x", value=json.dumps({"deployment": d.name, **body}).encode(), headers=headers
        )

    prediction = {
        "version": "7",
        "inputs": {"distance": 100.0, "carrier": "UA"},
        "outputs": {"prediction": 10.0},
        "eventTime": "2013-01-01T00:10:00Z",
    }
    say(OUTCOMES.name, "ForeignOutcome", "o1", {"predictionId": "flight-1", "value": 13.0, "knownAt": "2013-01-01T00:20:00Z"})
    say(PREDICTIONS.name, "ForeignPrediction", "p1", {"predictionId": "flight-1", **prediction})
    say(PREDICTIONS.name, "ForeignPrediction", "p1", {"predictionId": "flight-1", **prediction})
    say(PREDICTIONS.name, "ForeignPrediction", "p2", {"predictionId": "flight-2", **prediction})
    say(OUTCOMES.name, "ForeignOutcome", "o2", {"predictionId": "flight-2", "value": 9.0, "knownAt": "2013-01-01T00:20:00Z"})
    say(OUTCOMES.name, "ForeignOutcome", "o3", {"predictionId": "flight-2", "value": "nine"})
    producer.flush(10)
    inputs, outputs = Struct(), Struct()
    inputs.update({"distance": 5.0})
    outputs.update({"prediction": 1.0})
    third = pb.ForeignPrediction(prediction_id="flight-3", version="7", inputs=inputs, outputs=outputs, sequence=1)
    request = api.LogPredictionsRequest(deployment=d.name, producer="plant", predictions=[third])
    assert (await world.call("LogPredictions", request)).accepted == 1

    async def counted() -> bool:
        lines = await d.ledger()
        return ("7", "champion") in lines and (lines["7", "champion"].counted, lines["7", "champion"].outcomes) == (3, 2)

    await world.until(counted)
    assert (await d.ledger())["7", "champion"].repeats == 1


async def test_calls_that_cannot_be_right_are_refused_with_their_reason(world: World) -> None:  # F09
    """Unknown deployments, ids, lengths and truths."""
    d = await world.deployed()
    with pytest.raises(InvalidArgument, match="no prediction id"):
        await d.record(["x"], [1.0], T0)
    with pytest.raises(InvalidArgument, match="numbers"):
        await d.record([f"{d.stream}-1"], [], T0)
    with pytest.raises(InvalidArgument, match="finite"):
        await d.record([f"{d.stream}-1"], [float("nan")], T0)
    with pytest.raises((NotFound, Exception)):
        await world.call("GetLedger", api.GetLedgerRequest(deployment="nobody"), 3)
