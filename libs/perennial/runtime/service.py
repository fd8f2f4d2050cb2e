"""What is a service's whole main()?

``run`` reads the settings, opens what the service stands on, lets ``build`` put the service together, serves until it
is told to stop, and stops in the order that loses nothing. Nothing outside has to be there at the start: what is
missing is retried in the background and named in the readiness detail.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.clock import Clock, SystemClock
from perennial.errors import PerennialError
from perennial.runtime import telemetry
from perennial.runtime.access import NoPolicy
from perennial.runtime.background import Background, Conditions
from perennial.runtime.bus import Bus
from perennial.runtime.config import ServiceConfig
from perennial.runtime.consumer import Consumer, Handle
from perennial.runtime.executor import Executor
from perennial.runtime.identity import _CALLER, service_principal
from perennial.runtime.objects import Objects, open_objects
from perennial.runtime.peers import Peers
from perennial.runtime.stopping import Stage, Stop
from perennial.runtime.tokens import LoadKeys, OwnToken, ServiceKey, Verifier, audience_of
from perennial.topics import Topic

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from perennial.runtime.leases import Leases
    from perennial.runtime.postgres import Postgres
    from perennial.runtime.server import Server

Build = Callable[["Runtime"], Awaitable[None]]


def run(config: type[ServiceConfig], build: Build, *, migrations: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends at once. A start that cannot succeed ends with status 1."""
    settings = config.load()
    import uvloop

    try:
        uvloop.run(_serve(settings, build, migrations))
    except (PerennialError, NoPolicy) as error:
        sys.exit(f"{settings.service} cannot start: {error}")


async def _serve(settings: ServiceConfig, build: Build, migrations: Path | None) -> None:
    stop = asyncio.Event()

    def told() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told)
    runtime = Runtime(settings)
    starting = asyncio.create_task(runtime.start(build, migrations=migrations))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        else:
            starting.cancel()
        await stopping
    finally:
        stopping.cancel()
        await runtime.stop()


class Runtime:
    """What a service is built on; made by :func:`run`, or by a test."""

    def __init__(self, config: ServiceConfig, *, clock: Clock | None = None) -> None:
        self.config: Any = config
        self.name = config.service
        self.clock: Clock = clock or SystemClock()
        self.started_at = datetime.now(UTC)
        self.log = telemetry.set_up(self.name, config.log_level)
        _CALLER.set(service_principal(self.name))
        key = ServiceKey(config.secret("service_key", "service-key"))
        self.key = key
        self.token: Callable[[], str] = OwnToken(key, self.name, audience_of(config))
        self.verifier = Verifier(config, key)
        self.objects: Objects = open_objects(config)
        self.bus = Bus(config)
        self.peers = Peers(config, self.token)
        self.executor = Executor(config.processes, config.threads)
        self.conditions = Conditions()
        self._consumers: dict[str, Consumer] = {}
        self._background = Background(self.log)
        self._stop = Stop(self.log)
        self._redis: Redis | None = None
        self._postgres: Postgres | None = None
        self._leases: Leases | None = None
        self._server: Server | None = None
        self.topics_there = asyncio.Event()
        """Set once every topic exists; consumers begin then."""

    # What build() uses.

    @property
    def postgres(self) -> "Postgres":
        """The service's database; only for services configured with one."""
        if self._postgres is None:
            raise RuntimeError(f"{self.name} has no database: set {self.name}'s DATABASE_URL")
        return self._postgres

    @property
    def leases(self) -> "Leases":
        """Fenced leases in the service's own schema."""
        assert self._leases is not None or self.postgres
        return self._leases  # type: ignore[return-value] # set together with postgres

    @property
    def redis(self) -> "Redis":
        """Redis or Valkey; connects at first use, every command has a deadline."""
        if self._redis is None:
            from redis.asyncio import Redis

            url = self.config.redis_url.get_secret_value()
            self._redis = Redis.from_url(url, socket_timeout=3.0, socket_connect_timeout=2.0, health_check_interval=15)
        return self._redis

    @property
    def port(self) -> int:
        """The gRPC port in use; known once started."""
        assert self._server is not None
        return self._server.port

    @property
    def metrics_port(self) -> int:
        """The HTTP port of /metrics in use; known once started."""
        assert self._server is not None
        return self._server.metrics_port

    def add_servicer(self, servicer: object, service: Any, *, own_request_ids: Collection[str] = ()) -> None:
        """Offer ``service`` (a descriptor: ``x_pb2.DESCRIPTOR.services_by_name["XService"]``).

        Refuses methods without an access option. Methods in ``own_request_ids`` deal with ``request_id`` themselves.
        """
        assert self._server is not None, "add_servicer belongs in build()"
        self._server.add(servicer, service, own_request_ids=own_request_ids)

    def consume(self, topic: Topic, *, group: str, handle: Handle, types: Collection[str] | None = None) -> None:
        """Handle the events of a topic at least once, in order per key; acknowledged after ``handle`` returned."""
        consumer = self._consumers.get(group)
        if consumer is None:
            consumer = self._consumers[group] = Consumer(self.bus, group)
            self.background(f"consumer {group}", self._consuming(consumer))
        reading = consumer.add(topic, handle, types)
        self.conditions.add(f"consumer {group} {topic.name}", lambda: _value(reading.problem))

    def _consuming(self, consumer: Consumer) -> Callable[[], Awaitable[None]]:
        async def consume() -> None:
            await self.topics_there.wait()
            await consumer.run()

        return consume

    def background(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run beside the service: started again with back-off when it fails, cancelled first when stopping."""
        self._background.add(name, run)

    def on_stop(self, stage: Stage, close: Callable[[], Awaitable[None]]) -> None:
        """Call ``close`` in a stage of the stop order; its failures are logged and do not hold up the rest."""
        self._stop.add(stage, close)

    def condition(self, name: str, check: Callable[[], Awaitable[str | None]]) -> None:
        """A readiness detail: ``check`` gives None, or what is wrong. Asked at every /readyz, with a deadline."""
        self.conditions.add(name, check)

    def api_keys(self, load: LoadKeys) -> None:
        """Where API keys are loaded from, instead of the registry's ListApiKeys (registry: its table; serving: its snapshot)."""
        self.verifier.keys.load = load

    # The life of it.

    async def start(self, build: Build, *, migrations: Path | None = None) -> None:
        """Open everything, build the service and serve."""
        from perennial.runtime import opening  # imports grpc and asyncpg: after build processes could be started

        _CALLER.set(service_principal(self.name))
        self._server = opening.server(self)
        if self.config.database_url is not None:
            self._postgres, self._leases = await opening.database(self, migrations)
        if self.config.needs_kafka:
            opening.kafka(self)
        await build(self)
        await opening.serve(self, self._server)
        self._background.start()
        self.log.info("serving", port=self.port, metrics_port=self.metrics_port, pid=os.getpid())

    async def stop(self) -> None:
        """NOT_SERVING → consumers → server drained → spool committed → producers flushed → clients closed."""
        self.log.info("stopping")
        server = self._server
        if server is not None:
            await self._stop.step("not serving", server.refuse)
        await self._stop.step("background work", self._background.stop)
        await self._stop.stage("consumers")
        if server is not None:
            await self._stop.step("server", lambda: server.drain(self.config.grace_s), self.config.grace_s + 5)
        await self._stop.stage("drained")
        await self._stop.stage("spool")
        await self._stop.stage("producers")
        await self._stop.step("producer", self.bus.close)
        await self._stop.stage("clients")
        await self._stop.step("executor", self.executor.close)
        await self._stop.step("peers", self.peers.close)
        if self._redis is not None:
            await self._stop.step("redis", self._redis.aclose)
        if self._postgres is not None:
            await self._stop.step("database", self._postgres.close)
        if server is not None:
            await self._stop.step("status port", server.close)
        self.log.info("stopped")
        sys.stderr.flush()


async def _value(value: str | None) -> str | None:
    return value
