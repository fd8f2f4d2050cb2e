"""Where does a test session get its servers from? One that runs already, or one of its own that dies with it."""

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from perennial.local.home import Home, read_env
from perennial.local.process import Child, spawn, tail
from perennial.local.stack import ADDRESS_VARIABLES, Servers
from perennial.local.state import read

_UP_S = 180.0
_STOP_S = 60.0


@dataclass
class RunningStack:
    """Kafka, PostgreSQL, Valkey and S3, with their administrators' credentials in ``env_file``."""

    env_file: Path
    servers: Servers
    child: Child | None = field(default=None, repr=False)

    @classmethod
    def named(cls) -> Self | None:
        """The running one that PERENNIAL_TEST_STACK (a home) or PERENNIAL_ENV_FILE names; None when neither does."""
        home, file = os.environ.get("PERENNIAL_TEST_STACK"), os.environ.get("PERENNIAL_ENV_FILE")
        env_file = Path(home) / "servers.env" if home else Path(file) if file else None
        if env_file is None:
            return None
        if home and not env_file.is_file():
            raise RuntimeError(f"PERENNIAL_TEST_STACK={home}: nothing runs there; `perennial up --only stack --home` starts it")
        servers = Servers.given(read_env(env_file))
        return cls(env_file if not home else Path(home) / "env", servers) if servers.database_url else None

    @classmethod
    def started(cls, folder: Path) -> Self:
        """A fresh one in ``folder``; it ends with this process, however that ends."""
        home = Home.at(folder)
        kept = {name: value for name, value in os.environ.items() if name not in ADDRESS_VARIABLES}
        log = home.logs / "supervisor.log"
        child = spawn(
            "supervisor", [sys.executable, "-m", "perennial.cli", "up", "--home", home.folder, "--only", "stack"],
            log=log, pid_file=folder / "supervisor.pid", env=kept, cwd=folder,
        )  # fmt: skip
        deadline = time.monotonic() + _UP_S
        while (state := read(folder)) is None or state["phase"] != "up":
            if not child.alive() or time.monotonic() > deadline:
                child.kill()
                raise RuntimeError(f"the test stack did not start; the end of {log}:\n{tail(log, 40)}")
            time.sleep(0.05)
        return cls(home.env, Servers.given(read_env(home.servers_env)), child)

    async def stop(self) -> None:
        """End it if it is our own."""
        if self.child is not None:
            await self.child.stop(_STOP_S)


async def gone(child: Child, deadline_s: float = 20.0) -> int:
    """The exit status of a child that is expected to end."""
    return await asyncio.wait_for(child.ended(), deadline_s)
