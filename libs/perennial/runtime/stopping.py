"""In which order does a service end?"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

Stage = Literal["consumers", "drained", "spool", "producers", "clients"]
Close = Callable[[], Awaitable[object]]
STEP_S = 10.0


class Stop:
    """Runs closing steps one after the other; a step that fails or hangs does not hold up the next."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._closes: dict[Stage, list[Close]] = {}

    def add(self, stage: Stage, close: Close) -> None:
        """Close in this stage, in the order added."""
        self._closes.setdefault(stage, []).append(close)

    async def stage(self, stage: Stage) -> None:
        """Run every closing of a stage."""
        for close in self._closes.get(stage, ()):
            await self.step(stage, close)

    async def step(self, name: str, close: Close, deadline_s: float = STEP_S) -> None:
        """Run one closing within its deadline."""
        try:
            await asyncio.wait_for(_done(close), deadline_s)
        except TimeoutError:
            self._log.warning("a step of the stop took too long and was left", step=name)
        except Exception as error:  # noqa: BLE001 the stop goes on
            self._log.warning("a step of the stop failed", step=name, exc_info=error)


async def _done(close: Close) -> None:
    await close()
