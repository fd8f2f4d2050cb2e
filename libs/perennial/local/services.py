"""How does a service run as a child process?

``python -m services.<name>`` with the env file of its home, on its usual port or a free one; it counts as running when
its readiness page says so.
"""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from perennial.local.home import Home, cache_folder
from perennial.local.part import Part, PartFailed
from perennial.local.process import spawn
from perennial.local.stack import ADDRESS_VARIABLES

_CONFIGURATION_STATUS = 2
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS")


@dataclass(frozen=True)
class Entry:
    """One line of the table of services."""

    name: str
    port: int
    has_database: bool = True
    http_port: int = 0
    """Where it answers HTTP besides gRPC; 0: nowhere."""


TABLE = (
    Entry("registry", 50051),
    Entry("feature", 50052),
    Entry("trainer", 50053),
    Entry("serving", 50054),
    Entry("monitor", 50055),
    Entry("explainer", 50056),
    Entry("gateway", 50057, has_database=False, http_port=8080),
)
BY_NAME = {entry.name: entry for entry in TABLE}


def root() -> Path | None:
    """The folder that holds ``services``; None where only the library is installed."""
    found = importlib.util.find_spec("services")
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0]).parent if places else None


def present() -> tuple[Entry, ...]:
    """The services whose program is here, in the order they are listed."""
    folder = root()
    return tuple(entry for entry in TABLE if folder and (folder / "services" / entry.name / "__main__.py").is_file())


@dataclass(frozen=True)
class Ports:
    """Where one service listens."""

    grpc: int
    metrics: int
    http: int = 0

    @classmethod
    def chosen(cls, entry: Entry, home: Home) -> "Ports":
        """The usual ports, or free ones where they are taken."""
        http = home.port(f"{entry.name}-http", entry.http_port) if entry.http_port else 0
        return cls(home.port(entry.name, entry.port), home.port(f"{entry.name}-metrics", entry.port + 1000), http)

    def variables(self, name: str) -> dict[str, str]:
        """As variables of the env file: for the service itself, and for those who call it."""
        scope = f"PERENNIAL_{name.upper()}"
        values = {f"{scope}__PORT": str(self.grpc), f"{scope}__METRICS_PORT": str(self.metrics)}
        if self.http:
            return values | {f"{scope}__HTTP_PORT": str(self.http), f"{scope}_URL": f"http://127.0.0.1:{self.http}"}
        return values | {f"{scope}_ADDRESS": f"127.0.0.1:{self.grpc}"}


def environment(env_file: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a service: ours, but every address comes from the env file."""
    kept = {name: value for name, value in os.environ.items() if name not in ADDRESS_VARIABLES}
    threads = {name: "1" for name in _ONE_THREAD if name not in os.environ}
    if kept.pop("PYTHONDONTWRITEBYTECODE", ""):  # compiling every library at every start takes longer than starting
        kept.setdefault("PYTHONPYCACHEPREFIX", str(cache_folder() / "bytecode"))
    return {**kept, **threads, "PYTHONUNBUFFERED": "1", "PERENNIAL_ENV_FILE": str(env_file), **(extra or {})}


class Service(Part):
    """One service of a home, behind the same protocol as the servers."""

    grace_s: ClassVar[float] = 25.0

    def __init__(self, home: Home, entry: Entry, ports: Ports, extra: Mapping[str, str] | None = None) -> None:
        super().__init__(home)
        self.entry = entry
        self.ports = ports
        self.extra = dict(extra or {})
        self.name = entry.name  # type: ignore[misc] # a part's name is its class's; a service's is its entry's
        self.chosen_port = ports.grpc

    async def start(self) -> str:
        """Start it and wait for its readiness; where it answers."""
        folder = root()
        if folder is None:
            raise PartFailed(f"{self.name}: the services are not installed here; run from a checkout")
        self.child = spawn(
            self.name, [sys.executable, "-m", f"services.{self.name}"],
            log=self.home.logs / f"{self.name}.log", pid_file=self.home.run / f"{self.name}.pid",
            env=environment(self.home.env, self.extra), cwd=folder,
        )  # fmt: skip
        await self.answering(self._ready)
        return f"http://127.0.0.1:{self.ports.http}" if self.ports.http else f"127.0.0.1:{self.ports.grpc}"

    def misconfigured(self) -> bool:
        """Whether it ended because of its settings, which trying again does not change."""
        return self.child is not None and self.child.process.poll() == _CONFIGURATION_STATUS

    async def _ready(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports.metrics)
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
