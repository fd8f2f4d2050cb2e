"""Events are handled at least once, in order per key, and none is lost on the way to the dead letter."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from perennial import topics
from perennial.runtime import consumer, deadletters
from perennial.runtime.events import Event, Received, Refused, current_event, headers_of, new_id
from perennial.runtime.kafka import ensure_topics
from perennial.v1 import events_pb2

from tests.runtime.conftest import Start, Trial


async def nothing(request: object) -> str:
    return ""


async def until(condition: Callable[[], Any], deadline_s: float = 20.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.02)


class Reader:
    """Handles events of monitoring that are meant for one test, and lets ``act`` fail."""

    def __init__(self, act: Callable[[Received], Awaitable[None]] | None = None) -> None:
        self.mark = new_id()
        self.group = f"g{self.mark}"
        self.got: list[Received] = []
        self._act = act

    async def handle(self, event: Received) -> None:
        if event.source != self.mark and event.key != self.mark.encode():
            return
        if self._act is not None:
            await self._act(event)
        self.got.append(event)

    @property
    def subjects(self) -> list[str]:
        return [event.subject for event in self.got]


async def reading(start: Start, reader: Reader, topic: topics.Topic = topics.MONITORING, **options: Any) -> Trial:
    async def build(runtime: Any) -> None:
        await ensure_topics(runtime.config)
        runtime.consume(topic, group=reader.group, handle=reader.handle, **options)

    return await start(nothing, build=build)


def event(reader: Reader, subject: str, **more: Any) -> Event:
    return Event(topics.MONITORING, reader.mark, events_pb2.DriftDetected(), subject=subject, **more)


async def test_events_come_in_order_and_are_told_in_full(start: Start) -> None:
    """A key's events are handled in the order they were published, with their headers."""
    reader = Reader()
    trial = await reading(start, reader)
    for number in range(20):
        await trial.runtime.bus.publish(event(reader, f"{number}", rows=number, aggregate="a", aggregate_version=number))
    await until(lambda: len(reader.got) == 20)
    assert reader.subjects == [str(number) for number in range(20)]
    last = reader.got[-1]
    assert (last.type, last.aggregate, last.aggregate_version, last.source) == (
        "DriftDetected",
        "a",
        19,
        trial.runtime.bus.source,
    )
    assert last.headers["ce_rows"] == b"19"
    assert last.correlation_id == last.causation_id == last.id


async def test_an_event_published_while_handling_another_is_its_consequence(start: Start) -> None:
    """The chain's first event is the correlation, the one just before the causation."""
    box: list[Trial] = []

    async def act(one: Received) -> None:
        assert current_event() is one
        if one.subject in ("first", "second"):
            following = {"first": "second", "second": "third"}[one.subject]
            async with box[0].runtime.postgres.transaction() as transaction:
                await transaction.publish(event(reader, following))

    reader = Reader(act)
    trial = await reading(start, reader)
    box.append(trial)
    await trial.runtime.bus.publish(event(reader, "first"))
    await until(lambda: len(reader.got) == 3)
    first, second, third = reader.got
    assert (second.correlation_id, second.causation_id) == (first.id, first.id)
    assert (third.correlation_id, third.causation_id) == (first.id, second.id)


async def test_a_failing_event_is_tried_until_it_works(start: Start) -> None:
    """Nothing is acknowledged before its effect; the order holds while it is tried again."""
    tries: list[str] = []

    async def act(one: Received) -> None:
        tries.append(one.subject)
        if one.subject == "stubborn" and tries.count("stubborn") < 4:
            raise OSError("not yet")

    reader = Reader(act)
    trial = await reading(start, reader)
    for subject in ("before", "stubborn", "after"):
        await trial.runtime.bus.publish(event(reader, subject))
    await until(lambda: len(reader.got) == 3)
    assert reader.subjects == ["before", "stubborn", "after"]
    assert tries.count("stubborn") == 4


async def test_what_is_refused_goes_to_the_dead_letter_whole_and_can_be_replayed(start: Start) -> None:
    """The dead letter has bytes, headers, reason and position; a replay sends the same event again."""
    refuse = True

    async def act(one: Received) -> None:
        if refuse and one.subject == "bad":
            raise Refused("its deployment does not exist")

    reader = Reader(act)
    trial = await reading(start, reader)
    bus = trial.runtime.bus
    bad = event(reader, "bad")
    await bus.publish(bad)
    await bus.publish(event(reader, "good"))
    await until(lambda: reader.subjects == ["good"])
    letter = next(one for one in await deadletters.letters(bus, topics.MONITORING) if one.id == bad.id)
    assert (letter.reason, letter.attempts, letter.value) == ("its deployment does not exist", 1, bad.message.SerializeToString())
    assert letter.key == reader.mark.encode()
    assert letter.headers["dlq_topic"] == b"perennial.monitoring"
    refuse = False
    assert await deadletters.replay(bus, topics.MONITORING) >= 1
    await until(lambda: reader.subjects == ["good", "bad"])
    assert reader.got[-1].id == bad.id
    assert await deadletters.replay(bus, topics.MONITORING) == 0


@pytest.mark.parametrize(
    ("headers", "value", "reason"),
    [
        ({"ce_id": b"1", "ce_type": b"DriftDetected"}, b"\xff\xff", "not a DriftDetected"),
        ({"ce_id": b"1", "ce_type": b"NoSuchThing"}, b"", "is no message of events.proto"),
        ({"ce_id": b"1"}, b"", "is no message of events.proto"),
        ({"ce_type": b"DriftDetected"}, b"", "ce_id is missing"),
        ({"ce_id": b"1", "ce_type": b"DriftDetected", "content-type": b"text/xml"}, b"<a/>", "text/xml"),
        ({"ce_id": b"1", "ce_type": b"DriftDetected", "content-type": b"application/json"}, b"{nonsense", "not a DriftDetected"),
        ({"ce_id": b"1", "ce_type": b"DriftDetected", "content-type": b"application/json"}, b"\xff\xfe{", "not a DriftDetected"),
        ({"ce_id": b"1", "ce_type": b"DriftDetected", "ce_time": b"yesterday"}, b"", "RFC 3339"),
        ({"ce_id": b"1", "ce_type": b"DriftDetected", "ce_time": b"2026-01-01T00:00:00"}, b"", "no time zone"),
        ({"ce_id": b"1", "ce_type": b"DriftDetected", "ce_aggregateversion": b"x"}, b"", "not a number"),
        ({"ce_id": b"1", "ce_type": b"DriftDetected"}, None, "has no value"),
    ],
)  # F08
async def test_what_cannot_be_read_goes_to_the_dead_letter(
    start: Start, headers: dict[str, bytes], value: bytes | None, reason: str
) -> None:
    """Poison is put aside with its bytes; what comes after it is handled."""
    reader = Reader()
    trial = await reading(start, reader)
    bus = trial.runtime.bus
    mark = reader.mark.encode()
    await bus.produce(topics.MONITORING, key=mark, value=value, headers=[*headers.items(), ("test", mark)])  # type: ignore[arg-type]
    await bus.publish(event(reader, "after"))
    await until(lambda: reader.subjects == ["after"])
    letters = [one for one in await deadletters.letters(bus, topics.MONITORING) if one.headers.get("test") == mark]
    assert [one.value for one in letters] == [value or b""]
    assert reason in letters[0].reason


async def test_json_of_outside_producers_is_read(start: Start) -> None:
    """The same messages may come as JSON."""
    reader = Reader()
    trial = await reading(start, reader)
    headers = [("ce_id", b"j1"), ("ce_type", b"DriftDetected"), ("content-type", b"application/json; charset=utf-8")]
    await trial.runtime.bus.produce(topics.MONITORING, key=reader.mark.encode(), value=b"{}", headers=headers)
    await until(lambda: reader.got)
    assert (reader.got[0].id, reader.got[0].type) == ("j1", "DriftDetected")


async def test_types_that_are_not_wanted_are_passed_over(start: Start) -> None:
    """A reader names what it handles."""
    reader = Reader()
    trial = await reading(start, reader, types={"DriftResolved"})
    await trial.runtime.bus.publish(event(reader, "raised"))
    await trial.runtime.bus.publish(Event(topics.MONITORING, reader.mark, events_pb2.DriftResolved(), subject="resolved"))
    await until(lambda: reader.got)
    assert reader.subjects == ["resolved"]


async def test_a_new_reader_of_the_group_goes_on_where_the_last_one_stopped(start: Start) -> None:
    """A clean stop commits what was done, and nothing that was not."""
    reader = Reader()
    trial = await reading(start, reader)
    await trial.runtime.bus.publish(event(reader, "one"))
    await until(lambda: reader.got)
    await trial.channel.close()
    await trial.runtime.stop()
    other = await reading(start, reader)
    await other.runtime.bus.publish(event(reader, "two"))
    await until(lambda: len(reader.got) > 1)
    assert reader.subjects == ["one", "two"]


async def test_an_event_whose_handling_was_cut_short_comes_again(start: Start) -> None:
    """A stop in the middle of an effect acknowledges nothing of it."""
    begun = asyncio.Event()

    async def act(one: Received) -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(consumer.COMMIT_S * 3)  # commits happen meanwhile
            await asyncio.Event().wait()

    reader = Reader(act)
    trial = await reading(start, reader)
    await trial.runtime.bus.publish(event(reader, "cut"))
    await asyncio.wait_for(begun.wait(), 20)
    await asyncio.sleep(consumer.COMMIT_S * 3)
    await trial.channel.close()
    await trial.runtime.stop()
    assert reader.got == []
    await reading(start, reader)
    await until(lambda: reader.got)
    assert reader.subjects == ["cut"]


async def test_a_reader_that_stands_still_is_rebuilt(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lag without progress: the watchdog builds a new consumer, which goes on."""
    monkeypatch.setattr(consumer, "STALLED_S", 1.0)
    reader = Reader()
    trial = await reading(start, reader)
    sessions: list[Any] = []
    watch = consumer._Session._watch

    async def noted(session: Any, now: float) -> None:
        sessions.append(session)
        await watch(session, now)

    monkeypatch.setattr(consumer._Session, "_watch", noted)
    await trial.runtime.bus.publish(event(reader, "one"))
    await until(lambda: reader.got and sessions)
    stuck = sessions[-1]._consumer
    stuck.pause(*stuck.assignment())  # as a client whose fetching broke
    stuck.resume = lambda *_: None
    await trial.runtime.bus.publish(event(reader, "two"))
    await until(lambda: len(reader.got) > 1)
    assert sessions[-1]._consumer is not stuck


async def test_the_inbox_knows_what_was_seen(start: Start) -> None:
    """``seen`` is part of the transaction: what was undone was not seen."""
    trial = await start(nothing)
    postgres = trial.runtime.postgres
    with pytest.raises(RuntimeError):
        async with postgres.transaction() as transaction:
            assert not await transaction.seen("reader", "event-1")
            raise RuntimeError
    for expected in (False, True):
        async with postgres.transaction() as transaction:
            assert await transaction.seen("reader", "event-1") is expected
    async with postgres.transaction() as transaction:
        assert not await transaction.seen("another reader", "event-1")


async def test_event_time_is_not_the_records_time(start: Start) -> None:
    """A replay of the past keeps its own times in ce_time and is not deleted by retention."""
    from perennial.clock import from_us

    past = from_us(1_357_000_000_000_000)
    headers = dict(headers_of(Event(topics.MONITORING, "k", events_pb2.DriftDetected(), time=past), source="x"))
    assert headers["ce_time"] == past.isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
