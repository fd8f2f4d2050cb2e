"""What runs beside the calls, and how is it seen whether all is well?"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from perennial import metrics
from perennial.runtime import telemetry

Run = Callable[[], Awaitable[None]]
Check = Callable[[], Awaitable[str | None]]
_CHECK_S = 5.0
_STOP_S = 10.0
_LONGEST_PAUSE_S = 10.0
_GOOD_RUN_S = 60.0


class Background:
    """Supervised tasks: started again with growing pauses when they fail."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._runs: list[tuple[str, Run]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False

    def add(self, name: str, run: Run) -> None:
        """Run it once started, or now."""
        self._runs.append((name, run))
        if self._started:
            self._tasks.append(asyncio.create_task(self._supervised(name, run), name=name))

    def start(self) -> None:
        """Start what was added."""
        self._started = True
        self._tasks += [asyncio.create_task(self._supervised(name, run), name=name) for name, run in self._runs]

    async def stop(self) -> None:
        """Cancel all and wait for their endings."""
        self._started = False
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_STOP_S)
            for task in late:
                self._log.warning("a background task does not end", task=task.get_name())

    async def _supervised(self, name: str, run: Run) -> None:
        pause = 0.5
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await run()
            except Exception as error:  # noqa: BLE001 a background task never takes the service down
                self._log.warning("a background task failed and is started again", task=name, exc_info=error)
            else:
                return
            telemetry.metric(metrics.BACKGROUND_RESTARTS).labels(name).inc()
            pause = 0.5 if loop.time() - began > _GOOD_RUN_S else min(pause * 2, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)


class Conditions:
    """Named things that should hold; none of them stops calls from being answered."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Ask ``check`` whenever somebody wants to know."""
        self._checks[name] = check

    async def now(self) -> dict[str, str]:
        """What is wrong, by condition; empty text means fine."""
        names = list(self._checks)
        texts = await asyncio.gather(*(_asked(self._checks[name]) for name in names))
        for name, text in zip(names, texts, strict=True):
            telemetry.metric(metrics.CONDITION).labels(name).set(0 if text else 1)
        return dict(zip(names, texts, strict=True))


async def _asked(check: Check) -> str:
    try:
        return await asyncio.wait_for(check(), _CHECK_S) or ""
    except TimeoutError:
        return f"no answer in {_CHECK_S:g} s"
    except Exception as error:  # noqa: BLE001 whatever it is, it is the condition's text
        return f"{type(error).__name__}: {error}"
