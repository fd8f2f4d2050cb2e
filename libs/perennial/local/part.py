"""What is a part of the stack? A server that can be started, watched and stopped, and says where it is."""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar

from perennial.local.home import Home
from perennial.local.process import Child, tail


class PartFailed(Exception):
    """A part could not be had or did not start; the message says why and what to do."""


class Part(ABC):
    """One server of a home. ``start`` may be called again after it ended: the address stays the same."""

    name: ClassVar[str]
    usual_port: ClassVar[int]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace_s: ClassVar[float] = 10.0
    ready_s: ClassVar[float] = 60.0

    def __init__(self, home: Home) -> None:
        self.home = home
        self.child: Child | None = None
        self.chosen_port = 0

    @abstractmethod
    async def start(self) -> str:
        """Start it and wait until it answers; its address. ``PartFailed`` when it does not."""

    async def stop(self) -> None:
        """Stop it in order; nothing when it does not run."""
        if self.child is not None:
            await self.child.stop(self.grace_s)

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.child is not None and self.child.alive()

    @property
    def port(self) -> int:
        """Where it listens; chosen at the first use, the same from then on."""
        if not self.chosen_port:
            self.chosen_port = self.home.port(self.name, self.usual_port)
        return self.chosen_port

    async def answering(self, probe: Callable[[], Awaitable[bool]]) -> None:
        """Wait until ``probe`` says so; ``PartFailed`` with the end of the log when the process ends or time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.ready_s
        pause = 0.02
        while loop.time() < deadline and self.alive():
            try:
                if await asyncio.wait_for(probe(), 3.0):
                    return
            except (OSError, TimeoutError, EOFError):
                pass
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, 0.2)
        log = self.home.logs / f"{self.name}.log"
        what = "did not answer in time" if self.alive() else "ended while starting"
        await self.stop()
        raise PartFailed(f"{self.name} {what}; the end of {log}:\n{tail(log)}")
