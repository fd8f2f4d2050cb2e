"""A lease is held by one, and a holder that lost it can write nothing."""

import asyncio

import pytest
from perennial.errors import Aborted
from perennial.runtime.leases import Leases

from tests.runtime.conftest import Start


async def nothing(request: object) -> str:
    return ""


async def test_one_holder_at_a_time_with_growing_tokens(start: Start) -> None:
    """While it is held nobody else gets it; the next taking has a higher token."""
    trial = await start(nothing)
    first, second = trial.runtime.leases, Leases(trial.runtime.postgres)
    held = await first.acquire("work", 30)
    assert held is not None
    assert await second.acquire("work", 30) is None
    await first.release(held)
    taken = await second.acquire("work", 30)
    assert taken is not None
    assert taken.token == held.token + 1


async def test_an_expired_holder_cannot_write(start: Start) -> None:
    """The fencing token is checked in the transaction of the write."""
    trial = await start(nothing)
    postgres, leases = trial.runtime.postgres, trial.runtime.leases
    old = await leases.acquire("work", 0.0)
    assert old is not None
    new = await leases.acquire("work", 30)
    assert new is not None
    async with postgres.transaction() as transaction:
        await transaction.check(new)
    with pytest.raises(Aborted, match="taken over"):
        async with postgres.transaction() as transaction:
            await transaction.check(old)
    assert not await leases.renew(old, 30)


async def test_a_taking_waits_for_a_write_under_the_old_token(start: Start) -> None:
    """From check to commit nobody can take the lease over, although it has expired."""
    trial = await start(nothing)
    postgres, leases = trial.runtime.postgres, trial.runtime.leases
    old = await leases.acquire("work", 0.0)
    assert old is not None
    async with postgres.transaction() as transaction:
        await transaction.check(old)
        taking = asyncio.create_task(leases.acquire("work", 30))
        done, _ = await asyncio.wait([taking], timeout=0.3)
        assert not done
        assert await leases.renew(old, 0.0)  # a renewal is not held up by the write
    assert await taking is not None


async def test_the_body_is_cancelled_when_the_lease_is_lost(start: Start) -> None:
    """Work under a lease ends when somebody else took it."""
    trial = await start(nothing)
    begun = asyncio.Event()

    async def work() -> None:
        async with trial.runtime.leases.held("work", 1.0):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    await trial.runtime.postgres.execute("update leases set token = token + 1 where name = 'work'")
    with pytest.raises(Aborted, match="was lost"):
        await asyncio.wait_for(task, 5)


async def test_a_held_lease_is_renewed_and_then_released(start: Start) -> None:
    """It outlives its time while the body runs and is free at once afterwards."""
    trial = await start(nothing)
    other = Leases(trial.runtime.postgres)
    async with trial.runtime.leases.held("work", 0.6) as lease:
        await asyncio.sleep(1.0)
        assert await other.acquire("work", 1) is None
    taken = await asyncio.wait_for(other.acquire("work", 1), 2)
    assert taken is not None
    assert taken.token == lease.token + 1
