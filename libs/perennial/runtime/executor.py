"""Where does work run that would hold up the event loop?

In a few processes of their own, started fresh (never forked from a process with grpc threads), with the threads of
numeric libraries fixed. They end with their parent, also when it is killed.
"""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from perennial.errors import DeadlineExceeded, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "NUMEXPR_NUM_THREADS")
_PR_SET_PDEATHSIG = 1


class Executor:
    """A pool of work processes, started at the first use."""

    def __init__(self, processes: int = 1, threads: int = 1) -> None:
        self._processes = processes
        self._threads = threads
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> None:
        """Make the pool; its processes start with the first work."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(os.getpid(),)
            )

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``fn``, a function of a module, called in a work process; its exceptions come through."""
        return await self.run_within(None, fn, *args, **kwargs)

    async def run_within(self, deadline_s: float | None, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``run``, with ``DeadlineExceeded`` after ``deadline_s``; the work itself is not interrupted."""
        self.start()
        assert self._pool is not None
        name = getattr(fn, "__name__", repr(fn))
        with self._thread_environment():
            future = self._pool.submit(_call, fn, args, kwargs)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), deadline_s)
        except BrokenProcessPool as error:
            self._discard()
            raise Unavailable(f"the work process of {name} died") from error
        except TimeoutError:
            if not future.cancelled() and future.done():
                raise
            raise DeadlineExceeded(f"{name} took more than {deadline_s:g} s") from None

    async def close(self) -> None:
        """End the processes; running work gets a second, then is killed."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            await asyncio.to_thread(process.join, 1.0)
            if process.is_alive():
                process.kill()

    def _discard(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def _thread_environment(self) -> Iterator[None]:
        """Processes are spawned inside submit and inherit the environment: threads are fixed before any import."""
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(self._threads)))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _call(fn: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]) -> T:
    return fn(*args, **kwargs)
