"""Who keeps the platform running? One process a home, which starts every part, restarts what dies, stops all in order.

It imports no grpc and forks from the main thread only: the kernel's word that a parent died is bound to that thread.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from perennial.local.home import Home, cache_folder, write_env
from perennial.local.kafka import Kafka, aot_cache
from perennial.local.part import Part, PartFailed
from perennial.local.process import Child, clear_leftovers, spawn
from perennial.local.provision import provision
from perennial.local.services import Ports, Service, present
from perennial.local.stack import Servers, Stack
from perennial.local.state import Lock, State

FIRST_PAUSE_S, LAST_PAUSE_S, STEADY_S = 0.5, 30.0, 30.0


class Supervisor:
    """The servers and services of one home.

    ``async with Supervisor(folder, namespace="demo", settings={...}) as platform: platform.variables`` runs a platform for
    the body; ``run`` runs one until it is told to stop. ``settings`` are further variables of the env file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        services: bool | Sequence[str] = True,
        namespace: str = "",
        settings: Mapping[str, str] | None = None,
        on_change: Callable[[State], None] = lambda _state: None,
    ) -> None:
        self.home = Home.at(folder)
        self.variables: dict[str, str] = {}
        """The env file's content, once started."""
        self._entries = [entry for entry in present() if services is True or (services and entry.name in services)]
        self._namespace = namespace
        self._settings = dict(settings or {})
        self._lock = Lock(self.home)
        self._keepers: list[asyncio.Task[None]] = []
        self._servers: list[Part] = []
        self._services: list[Part] = []
        self._recorder: Child | None = None
        self.state = State(self.home, namespace, on_change=on_change)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def run(self, *, when_up: Callable[[Self], None] = lambda _self: None) -> None:
        """Start everything, keep it running until SIGINT, SIGTERM or SIGHUP, stop it in order. A second signal kills."""
        told = asyncio.Event()

        def on_signal() -> None:
            if told.is_set():
                self.kill()
                os._exit(1)
            told.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, on_signal)
        starting = asyncio.create_task(self.start())
        waiting = asyncio.create_task(told.wait())
        try:
            await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                when_up(self)
                await waiting
        finally:
            for task in (starting, waiting):
                task.cancel()
            await asyncio.wait([starting, waiting])
            await self.stop()

    async def start(self) -> None:
        """Start servers, provision, start services; returns when each has answered or has been given up for now.

        ``AlreadyRunning`` when the home is taken; ``PartFailed`` when a server cannot be had.
        """
        self._lock.take()
        cleared = clear_leftovers(self.home.run)
        stack = Stack(self.home, Servers.given())
        self._servers = list(stack.parts)
        for part in self._servers:
            self.state.add(part.name, "server")
        for entry in self._entries:
            self.state.add(entry.name, "service")
        if cleared:
            self.state.cleared(cleared)
        addresses = await self._together(self._servers)
        for part, address in zip(self._servers, addresses, strict=True):
            stack.started(part, address)
            self._keep(part)
        await self._provisioned(stack.servers)
        await self._start_services()
        self.state.enter("up")
        self._record_aot()

    async def _together(self, parts: Sequence[Part]) -> list[str]:
        """Start parts side by side; the first failure is raised once all have come to an end."""
        results = await asyncio.gather(*(self._started(part) for part in parts), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            others = "".join(f"\n{failure}" for failure in failures[1:])
            raise PartFailed(f"{failures[0]}{others}") if isinstance(failures[0], PartFailed) else failures[0]
        return [str(result) for result in results]

    async def _started(self, part: Part) -> str:
        self.state.note(part.name, "starting")
        try:
            address = await part.start()
        except PartFailed as error:
            self.state.note(part.name, "failed", detail=str(error).splitlines()[0], pid=0)
            raise
        self.state.note(part.name, "running", address=_shown(address), pid=part.child.pid if part.child else 0)
        return address

    async def _provisioned(self, servers: Servers) -> None:
        write_env(self.home.servers_env, servers.variables())
        if not self._entries:
            from perennial.runtime import secrets

            secrets.ensure(self.home.secrets)
            self.variables = {**servers.variables(), "PERENNIAL_SECRETS_DIR": str(self.home.secrets), **self._settings}
            write_env(self.home.env, self.variables)
            return
        chosen = [(entry, Ports.chosen(entry, self.home)) for entry in self._entries]
        self._services = [Service(self.home, entry, ports) for entry, ports in chosen]
        self.variables = await provision(servers, self.home, services=chosen, namespace=self._namespace, extra=self._settings)

    async def _start_services(self) -> None:
        """All at once; one that does not come up is tried again in the background, and the rest goes on."""
        with contextlib.suppress(PartFailed):
            await self._together(self._services)
        for service in self._services:
            self._keep(service)

    def _keep(self, part: Part) -> None:
        self._keepers.append(asyncio.create_task(self._kept(part), name=f"keep {part.name}"))

    async def _kept(self, part: Part) -> None:
        """Start a part again whenever it ends, at the same address; each time after a longer pause until it holds."""
        pause = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            status = await part.child.ended() if part.child is not None else 1
            if isinstance(part, Service) and part.misconfigured():
                log = self.home.logs / f"{part.name}.log"
                self.state.note(part.name, "failed", pid=0, detail=f"its settings are wrong; see {log}")
                return
            if loop.time() - began > STEADY_S:
                pause = FIRST_PAUSE_S
            restarts = self.state.parts[part.name].restarts + 1
            detail = f"ended with status {status}; again in {pause:g} s"
            self.state.note(part.name, "restarting", pid=0, restarts=restarts, detail=detail)
            await part.stop()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE_S)
            began = loop.time()
            with contextlib.suppress(PartFailed, OSError):
                await self._started(part)

    def _record_aot(self) -> None:
        """After the first start of a user, make the next ones fast: record Kafka's ahead-of-time cache, with low priority."""
        cache = cache_folder()
        if any(isinstance(part, Kafka) for part in self._servers) and not aot_cache(cache).is_file():
            self._recorder = spawn(
                "kafka-aot", [sys.executable, "-m", "perennial.local.kafka_aot"], log=self.home.logs / "kafka-aot.log",
                pid_file=self.home.run / "kafka-aot.pid", env=os.environ, cwd=self.home.folder, niceness=19,
            )  # fmt: skip

    async def stop(self) -> None:
        """Services first, all together; then the servers one after the other, the last started first."""
        if not self._lock.held:
            return
        self.state.enter("stopping")
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)
        if self._recorder is not None:
            await self._recorder.stop(1.0)
        await asyncio.gather(*(self._stopped(service) for service in reversed(self._services)))
        for server in reversed(self._servers):
            await self._stopped(server)
        self.state.enter("stopped")
        self._lock.release()

    async def _stopped(self, part: Part) -> None:
        if part.child is None:
            return
        self.state.note(part.name, "stopping", pid=part.child.pid)
        await part.stop()
        self.state.note(part.name, "stopped", pid=0)

    def kill(self) -> None:
        """End everything at once."""
        for part in (*self._services, *self._servers):
            if part.child is not None:
                part.child.kill()


def _shown(address: str) -> str:
    """An address without the password in it."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else address
