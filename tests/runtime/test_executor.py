"""Work processes: results, errors and deaths come back, threads are fixed."""

import asyncio
import os
import signal
import time

import pytest
from perennial.errors import DeadlineExceeded, NotFound, Unavailable
from perennial.runtime.executor import Executor


def double(x: int) -> int:
    return 2 * x


def threads() -> tuple[str | None, int]:
    return os.environ.get("OMP_NUM_THREADS"), os.getpid()


def missing(name: str) -> None:
    raise NotFound(name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


async def test_work_is_done_in_another_process_with_its_threads_fixed() -> None:
    """The result comes back; the process is not ours; our environment is as before."""
    executor = Executor(processes=1, threads=3)
    before = os.environ.get("OMP_NUM_THREADS")
    assert await executor.run(double, 21) == 42
    count, pid = await executor.run(threads)
    assert (count, pid != os.getpid()) == ("3", True)
    assert os.environ.get("OMP_NUM_THREADS") == before
    await executor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_errors_keep_their_class() -> None:
    """Domain errors cross the process's border."""
    executor = Executor()
    with pytest.raises(NotFound) as failure:
        await executor.run(missing, "model m")
    assert failure.value.message == "model m"
    await executor.close()


async def test_a_death_is_told_and_the_next_work_is_done() -> None:
    """A killed process costs its own work only."""
    executor = Executor()
    with pytest.raises(Unavailable, match="of die died"):
        await executor.run(die)
    assert await executor.run(double, 1) == 2
    await executor.close()


async def test_a_deadline_is_kept() -> None:
    """The caller is free again in time."""
    executor = Executor()
    await executor.run(double, 1)
    begin = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await executor.run_within(0.2, sleep, 1.0)
    assert asyncio.get_running_loop().time() - begin < 0.9
    await executor.close()
