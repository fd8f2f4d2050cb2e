"""A command with a request id has its effect once."""

import asyncio
from typing import Any

import grpc
import pytest
from perennial.errors import NotFound

from tests.runtime.conftest import Start, Trial
from tests.runtime.echo import EchoRequest

TABLE = "create table if not exists effects (text text not null)"


async def counting(start: Start) -> tuple[Trial, list[str]]:
    """A service whose handler writes a row, in a transaction of its store, for every run."""
    runs: list[str] = []
    box: list[Trial] = []

    async def act(request: Any) -> str:
        runs.append(request.text)
        async with box[0].runtime.postgres.transaction() as transaction:
            await transaction.execute("insert into effects values ($1)", request.text)
        if request.text == "fails":
            raise NotFound("it fails after its effect")
        return f"{request.text} {len(runs)}"

    trial = await start(act)
    box.append(trial)
    await trial.runtime.postgres.execute(TABLE)
    return trial, runs


async def effects(trial: Trial) -> int:
    return int(await trial.runtime.postgres.fetchval("select count(*) from effects"))


async def test_the_same_request_gets_the_first_answer_again(start: Start) -> None:
    """The effect happens once; the answer is the first one, byte for byte."""
    trial, runs = await counting(start)
    call = trial.call("Single")
    first = await call(EchoRequest(text="a", request_id="1"), metadata=trial.admin)
    again = await call(EchoRequest(text="a", request_id="1"), metadata=trial.admin)
    assert (first.text, again.text, runs, await effects(trial)) == ("a 1", "a 1", ["a"], 1)


async def test_many_at_once_have_one_effect(start: Start) -> None:
    """Repeats that come while the first one runs wait for its answer."""
    trial, runs = await counting(start)
    call = trial.call("Single")
    answers = await asyncio.gather(*(call(EchoRequest(text="a", request_id="2"), metadata=trial.admin) for _ in range(6)))
    assert ({answer.text for answer in answers}, len(runs), await effects(trial)) == ({"a 1"}, 1, 1)


async def test_another_body_under_the_same_id_is_refused(start: Start) -> None:
    """An id belongs to one request."""
    trial, runs = await counting(start)
    call = trial.call("Single")
    await call(EchoRequest(text="a", request_id="3"), metadata=trial.admin)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call(EchoRequest(text="b", request_id="3"), metadata=trial.admin)
    assert failure.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert runs == ["a"]


async def test_a_failure_undoes_the_effect_and_may_be_tried_again(start: Start) -> None:
    """Nothing is kept of a call that failed: the store's own transaction was part of it."""
    trial, runs = await counting(start)
    call = trial.call("Single")
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError):
            await call(EchoRequest(text="fails", request_id="4"), metadata=trial.admin)
    assert (len(runs), await effects(trial)) == (2, 0)


async def test_ids_of_different_callers_do_not_meet(start: Start) -> None:
    """One caller cannot read another one's answers by guessing ids."""
    trial, runs = await counting(start)
    call = trial.call("Single")
    await call(EchoRequest(text="a", request_id="5"), metadata=trial.admin)
    trial.runtime.api_keys(_keys)
    await call(EchoRequest(text="a", request_id="5"), metadata=trial.bearer("other"))
    assert len(runs) == 2


async def _keys() -> Any:
    from perennial.runtime.tokens import KnownKey, digest_of

    return [KnownKey(digest_of("other"), "other", frozenset({"viewer"}))]


async def test_calls_without_an_id_happen_every_time(start: Start) -> None:
    """No id, no memory."""
    trial, runs = await counting(start)
    for _ in range(2):
        await trial.call("Single")(EchoRequest(text="a"), metadata=trial.admin)
    assert (len(runs), await effects(trial)) == (2, 2)
