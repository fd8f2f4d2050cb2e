"""Real supervisors of homes of their own."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from perennial.local.home import Home, read_env
from perennial.local.process import Child, spawn
from perennial.local.stack import ADDRESS_VARIABLES
from perennial.local.state import read

DEADLINE_S = 150.0


async def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The first true answer of ``condition``."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {deadline_s} s"
        await asyncio.sleep(0.03)
    return found


@dataclass
class Up:
    """A ``perennial up`` of a home."""

    folder: Path
    child: Child

    @property
    def output(self) -> str:
        """What it printed."""
        return self.log.read_text()

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.out"

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """The state of every part; empty while there is none."""
        state = read(self.folder)
        return {part["name"]: part for part in state["parts"]} if state else {}

    @property
    def variables(self) -> dict[str, str]:
        """The env file."""
        return read_env(self.folder / "env")

    def pids(self) -> list[int]:
        """Every process of this home but the supervisor."""
        supervisor = psutil.Process(self.child.pid)
        return [process.pid for process in supervisor.children(recursive=True)]

    async def is_up(self) -> "Up":
        """Wait until everything was started."""

        def phase() -> bool:
            assert self.child.alive(), self.output
            return (read(self.folder) or {}).get("phase") == "up"

        await until(phase)
        return self

    async def running(self, name: str, *, restarts: int = 0) -> dict[str, Any]:
        """Wait until a part runs after so many restarts or more."""

        def state() -> dict[str, Any] | None:
            part = self.parts.get(name, {})
            return part if part.get("state") == "running" and part["restarts"] >= restarts else None

        found: dict[str, Any] = await until(state)
        return found

    async def ended(self) -> int:
        """The exit status, when it ends."""
        return await asyncio.wait_for(self.child.ended(), DEADLINE_S)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal."""
        if self.child.alive():
            os.kill(self.child.pid, number)
        return await self.ended()


Start = Callable[..., Up]


def started(folder: Path, *arguments: str, **variables: str) -> Up:
    """Start ``perennial up`` in ``folder``; no address of a server is in its environment unless given."""
    kept = {name: value for name, value in os.environ.items() if name not in ADDRESS_VARIABLES}
    return Up(folder, spawn(
        "up", [sys.executable, "-m", "perennial.cli", "up", "--home", folder, *arguments],
        log=folder.parent / f"{folder.name}.out", pid_file=folder.parent / f"{folder.name}.pid",
        env={**kept, **variables}, cwd=folder.parent,
    ))  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a home may be: a place that another user can reach, as PostgreSQL's when we are root."""
    return reachable(tmp_path) / "a home"


def reachable(path: Path) -> Path:
    """Let other users pass through our own folders down to ``path``."""
    for step in (path, *path.parents):
        if step.stat().st_uid == os.geteuid() and step != Path("/"):
            step.chmod(step.stat().st_mode | 0o011)
    return path


@pytest.fixture
async def up() -> AsyncIterator[Start]:
    """``up(folder, "--only", "stack")``; all are ended after the test."""
    made: list[Up] = []

    def start(folder: Path, *arguments: str, **variables: str) -> Up:
        made.append(started(folder, *arguments, **variables))
        return made[-1]

    yield start
    for each in made:
        await each.stop()


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """One stack with a registry on it, for the tests of a module."""
    folder = reachable(tmp_path_factory.mktemp("shared")) / "home"
    made = started(folder, "--only", "registry")
    try:
        yield await made.is_up()
    finally:
        await made.stop()


@pytest.fixture
def home(folder: Path) -> Home:
    """A home nothing runs in."""
    return Home.at(folder)


