"""What is a platform for tests? A namespace on the shared servers, and services started in it as real processes."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncpg

from perennial.local import provision
from perennial.local.home import Home
from perennial.local.process import tail
from perennial.local.services import BY_NAME, TABLE, Entry, Ports, Service, environment
from perennial.local.stack import Servers


@dataclass
class ServiceProcess:
    """``python -m services.<name>`` in a test's namespace; killed and started again as a test needs it."""

    part: Service
    address: str = ""

    @property
    def pid(self) -> int:
        """Its process id now."""
        assert self.part.child is not None, f"{self.part.name} was not started"
        return self.part.child.pid

    @property
    def metrics_url(self) -> str:
        """Where /metrics, /healthz and /readyz are."""
        return f"http://127.0.0.1:{self.part.ports.metrics}"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.part.alive()

    async def start(self, **variables: str) -> Self:
        """Start it at its ports and wait until it is ready; ``variables`` are set for this run on."""
        self.part.extra.update(variables)
        await self.part.start()
        self.address = f"127.0.0.1:{self.part.ports.grpc}"
        return self

    async def kill(self) -> None:
        """End its whole group at once, as kill -9 does; returns when it is gone."""
        assert self.part.child is not None, f"{self.part.name} was not started"
        self.part.child.kill()
        await self.part.child.ended()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        await self.part.stop()

    async def restart(self, **variables: str) -> Self:
        """Stop it in order and start it at the same ports."""
        await self.stop()
        return await self.start(**variables)

    async def ended(self) -> int:
        """Wait until it ends by itself; its exit status."""
        assert self.part.child is not None, f"{self.part.name} was not started"
        return await self.part.child.ended()

    def log(self, lines: int = 60) -> str:
        """The end of what it wrote."""
        return tail(self.part.home.logs / f"{self.part.name}.log", lines)


@dataclass
class Platform:
    """A namespace of its own on the stack: schemas and roles, topics, bucket, secrets, env file."""

    home: Home
    servers: Servers
    namespace: str
    variables: dict[str, str]
    ports: dict[str, Ports]
    processes: dict[str, ServiceProcess] = field(default_factory=dict)
    _pools: dict[str, Any] = field(default_factory=dict)

    @classmethod
    async def provisioned(cls, servers: Servers, folder: Path, settings: Mapping[str, str] | None = None) -> Self:
        """A fresh namespace with everything a platform needs in it; nothing is started."""
        home = Home.at(folder)
        namespace = f"t{secrets.token_hex(4)}"
        chosen = [(entry, _ports(entry, home)) for entry in TABLE]
        extra = {"PERENNIAL_KAFKA_PARTITIONS": "2", **(settings or {})}
        variables = await provision.provision(servers, home, services=chosen, namespace=namespace, extra=extra)
        return cls(home, servers, namespace, variables, {entry.name: ports for entry, ports in chosen})

    @property
    def env_file(self) -> Path:
        """What services, CLI and SDK of this namespace read."""
        return self.home.env

    @property
    def admin_token(self) -> str:
        """The bearer token of the local administrator."""
        return (self.home.secrets / "admin-token").read_text().strip()

    def address(self, service: str) -> str:
        """Where a service answers gRPC once it runs."""
        return f"127.0.0.1:{self.ports[service].grpc}"

    def dsn(self, service: str) -> str:
        """The URL a service connects to PostgreSQL with: its own role, whose search_path is its schema."""
        return self.variables[f"PERENNIAL_{service.upper()}__DATABASE_URL"]

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment of a program of this namespace (a service, the CLI)."""
        return environment(self.env_file, variables)

    async def pool(self, service: str) -> Any:
        """An asyncpg pool on a service's schema; closed with the platform."""
        if service not in self._pools:
            self._pools[service] = await asyncpg.create_pool(self.dsn(service), min_size=0, max_size=4, command_timeout=30.0)
        return self._pools[service]

    async def service(self, name: str, **variables: str) -> ServiceProcess:
        """The running process of a service, started at the first call."""
        process = self.processes.get(name)
        if process is None:
            part = Service(self.home, BY_NAME[name], self.ports[name])
            process = self.processes[name] = ServiceProcess(part)
        if not process.alive:
            await process.start(**variables)
        return process

    async def close(self, *, keep: bool = False) -> None:
        """Stop the services and drop the namespace."""
        for process in reversed(list(self.processes.values())):
            await process.stop()
        for pool in self._pools.values():
            await pool.close()
        if not keep and not os.environ.get("PERENNIAL_TEST_KEEP"):
            await provision.drop(self.servers, self.namespace)


def _ports(entry: Entry, home: Home) -> Ports:
    """Free ports: test sessions run side by side, and beside a platform."""
    http = home.port(f"{entry.name}-http", 0) if entry.http_port else 0
    return Ports(home.port(entry.name, 0), home.port(f"{entry.name}-metrics", 0), http)
