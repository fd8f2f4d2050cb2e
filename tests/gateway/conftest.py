"""The real gateway in a process of its own, before a real registry; spoken to over HTTP."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.registry.conftest import Registry, home, model, namespace, registry

__all__ = ["home", "model", "namespace", "registry"]


@dataclass
class Rest:
    """The gateway and clients of it."""

    address: str
    registry: Registry
    process: Process

    def client(self, by: str = "admin", *, token: str = "", **headers: str) -> httpx.AsyncClient:
        """A client with a caller's token."""
        own = {"authorization": f"Bearer {token or self.registry.token(by)}", **headers}
        return httpx.AsyncClient(base_url=self.address, headers=own, timeout=20)


async def started(home: Path, **settings: object) -> tuple[Process, dict[str, int]]:
    """A gateway process and the ports it says it listens on."""
    given = {"PORT": 0, "METRICS_PORT": 0, "HTTP_PORT": 0, **settings}
    environment = {f"PERENNIAL_GATEWAY__{name}": str(value) for name, value in given.items()}
    environment |= {"PERENNIAL_SECRETS_DIR": str(home / "secrets"), "PERENNIAL_DATA_DIR": str(home)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env={**os.environ, **environment}, stderr=PIPE
    )
    assert process.stderr is not None
    ports: dict[str, int] = {}
    async with asyncio.timeout(30):
        while "gRPC" not in ports:
            line = await process.stderr.readline()
            assert line, "the gateway ended"
            said = json.loads(line) if line.startswith(b"{") else {}
            if said.get("message") == "HTTP":
                ports["HTTP"] = said["port"]
            if said.get("message") == "serving":
                ports["gRPC"], ports["metrics"] = said["port"], said["metrics_port"]
    return process, ports


async def stopped(process: Process) -> int:
    """End it in order; its exit status."""
    process.send_signal(signal.SIGTERM)
    return await asyncio.wait_for(process.wait(), 20)


@pytest.fixture(scope="session")
async def rest(registry: Registry, home: Path, namespace: str) -> AsyncIterator[Rest]:
    """The gateway under test. Only the registry is up behind it."""
    nobody = {f"{name}_ADDRESS": "127.0.0.1:1" for name in ("FEATURE", "TRAINER", "SERVING", "MONITOR", "EXPLAINER")}
    own = {"REGISTRY_ADDRESS": f"127.0.0.1:{registry.runtime.port}", "NAMESPACE": namespace, "BODY_BYTES": 2**20}
    process, ports = await started(home, **nobody, **own)
    drained = asyncio.create_task(process.stderr.read()) if process.stderr else None
    yield Rest(f"http://127.0.0.1:{ports['HTTP']}", registry, process)
    assert await stopped(process) == 0
    if drained:
        await drained
