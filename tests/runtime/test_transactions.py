"""A state change, its events and its audit rows are one fact."""

import asyncio
from typing import Any

import pytest
from perennial import topics
from perennial.errors import Aborted, InvalidArgument, Unavailable
from perennial.runtime.events import Event
from perennial.v1 import events_pb2

from tests.runtime.conftest import Start, Trial
from tests.runtime.echo import EchoRequest


def event(subject: str) -> Event:
    return Event(topics.MONITORING, "k", events_pb2.DriftDetected(), subject=subject)


async def acting(start: Start, act: Any) -> Trial:
    """A service whose handler is given the service."""
    box: list[Trial] = []

    async def given(request: Any) -> str:
        return str(await act(box[0]) or "")

    box.append(await start(given))
    await box[0].runtime.postgres.execute("create table things (name text primary key)")
    return box[0]


async def command(trial: Trial) -> str:
    answer = await trial.call("Single")(EchoRequest(text="x", request_id="1"), metadata=trial.admin)
    return str(answer.text)


async def test_what_fails_inside_a_request_is_undone_alone(start: Start) -> None:
    """A savepoint that is rolled back takes its rows, events and audit rows with it, and nothing else."""

    async def act(trial: Trial) -> None:
        postgres = trial.runtime.postgres
        async with postgres.transaction() as transaction:
            await transaction.execute("insert into things values ('kept')")
            await transaction.audit("kept", "x")
        with pytest.raises(RuntimeError):
            async with postgres.transaction() as transaction:
                await transaction.execute("insert into things values ('undone')")
                await transaction.audit("undone", "x")
                await transaction.publish(event("undone"))
                raise RuntimeError

    trial = await acting(start, act)
    await command(trial)
    postgres = trial.runtime.postgres
    assert [row["name"] for row in await postgres.fetch("select name from things")] == ["kept"]
    assert [row["action"] for row in await postgres.fetch("select action from audit")] == ["kept"]


async def test_parallel_work_of_one_request_shares_its_transaction(start: Start) -> None:
    """Tasks of a handler take turns on the request's connection, reads and transactions alike."""

    async def act(trial: Trial) -> int:
        postgres = trial.runtime.postgres

        async def add(number: int) -> None:
            async with postgres.transaction() as transaction:
                await transaction.execute("insert into things values ($1)", str(number))
                await asyncio.sleep(0)
                await postgres.fetchval("select count(*) from things")

        await asyncio.gather(*(add(number) for number in range(5)))
        counts = await asyncio.gather(*(postgres.fetchval("select count(*) from things") for _ in range(5)))
        return int(counts[0])

    trial = await acting(start, act)
    assert await command(trial) == "5"


async def test_a_lost_race_is_aborted(start: Start) -> None:
    """Two transactions that lock each other's rows: one is told to try again."""

    async def nothing(trial: Trial) -> None:
        return None

    trial = await acting(start, nothing)
    postgres = trial.runtime.postgres
    await postgres.execute("insert into things values ('a'), ('b')")
    met = asyncio.Barrier(2)

    async def both(first: str, second: str) -> None:
        async with postgres.transaction() as transaction:
            await transaction.execute("select 1 from things where name = $1 for update", first)
            await met.wait()
            await transaction.execute("select 1 from things where name = $1 for update", second)

    outcomes = await asyncio.gather(both("a", "b"), both("b", "a"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [Aborted]


async def test_a_killed_session_is_unavailable_and_the_next_one_works(start: Start) -> None:
    """The database went away in the middle: the caller may try again, and can."""

    async def nothing(trial: Trial) -> None:
        return None

    trial = await acting(start, nothing)
    postgres = trial.runtime.postgres
    with pytest.raises(Unavailable):
        async with postgres.transaction() as transaction:
            pid = await transaction.fetchval("select pg_backend_pid()")
            await postgres.pool.fetchval("select pg_terminate_backend($1)", pid)
            await asyncio.sleep(0.1)
            await transaction.execute("insert into things values ('lost')")
    assert await postgres.fetchval("select count(*) from things") == 0


async def test_a_cancelled_transaction_leaves_a_clean_connection(start: Start) -> None:
    """A caller that goes away takes its half change with it."""

    async def nothing(trial: Trial) -> None:
        return None

    trial = await acting(start, nothing)
    postgres = trial.runtime.postgres

    async def slow() -> None:
        async with postgres.transaction() as transaction:
            await transaction.execute("insert into things values ('half')")
            await transaction.execute("select pg_sleep(10)")

    for _ in range(20):
        task = asyncio.create_task(slow())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with postgres.transaction() as transaction:
        assert await transaction.fetchval("select count(*) from things") == 0
        assert await transaction.fetchval("select count(*) from pg_locks where not granted") == 0


async def test_an_event_too_large_is_refused_at_once(start: Start) -> None:
    """It would block the outbox for ever."""

    async def nothing(trial: Trial) -> None:
        return None

    trial = await acting(start, nothing)
    big = Event(topics.PREDICTIONS, "k", events_pb2.PredictionBatch(stream="x" * (5 * 1024 * 1024)))
    with pytest.raises(InvalidArgument, match="PredictionBatch"):
        async with trial.runtime.postgres.transaction() as transaction:
            await transaction.publish(big)


async def test_json_columns_take_and_give_values(start: Start) -> None:
    """Stores never parse JSON themselves, bulk inserts included."""

    async def nothing(trial: Trial) -> None:
        return None

    trial = await acting(start, nothing)
    postgres = trial.runtime.postgres
    await postgres.execute("create table notes (a json, b jsonb)")
    value = {"a": [1, 2.5, None, "ä"], "b": True}
    await postgres.execute("insert into notes values ($1, $2)", value, value)
    await postgres.copy_records_to_table("notes", records=[(value, value)], columns=("a", "b"))
    assert [dict(row) for row in await postgres.fetch("select * from notes")] == [{"a": value, "b": value}] * 2
