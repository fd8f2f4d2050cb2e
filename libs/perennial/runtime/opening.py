"""How is what a service stands on opened, when some of it may not be there yet?"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from perennial.runtime import audit_heads, migrations, requests, telemetry
from perennial.runtime import kafka as brokers
from perennial.runtime.background import Run
from perennial.runtime.leases import Leases
from perennial.runtime.outbox import Relay
from perennial.runtime.platform import Platform
from perennial.runtime.postgres import Postgres
from perennial.runtime.server import Server
from perennial.runtime.tokens import KnownKey

if TYPE_CHECKING:
    from perennial.runtime.service import Runtime

T = TypeVar("T")

_HOUSEKEEPING_S = 3600.0
_LOG = telemetry.log(__name__)


def server(runtime: "Runtime") -> Server:
    """The server of a runtime, not listening yet."""

    async def readiness() -> tuple[bool, dict[str, str]]:
        return made.health.serving, await runtime.conditions.now()

    made = Server(runtime.config, runtime.verifier, readiness)
    return made


async def database(runtime: "Runtime", folder: Path | None) -> tuple[Postgres, Leases]:
    """The pool, migrated if PostgreSQL answers within the start's patience, else as soon as it does."""
    config = runtime.config
    postgres = Postgres(
        config.database_url.get_secret_value(), schema=config.schema_name, source=runtime.bus.source, pool_size=config.pool_size
    )
    await postgres.open()
    migrating = asyncio.create_task(_migrated(postgres, folder))
    await asyncio.wait([migrating], timeout=config.startup_wait_s)
    if migrating.done():
        migrating.result()
    else:
        _LOG.warning("starting without the database; it is tried again in the background")
    leases = Leases(postgres)
    relay = Relay(postgres, runtime.bus, leases)

    async def finish() -> None:
        await migrating

    runtime.background("migrations", finish)
    runtime.background("outbox relay", _once_ready(postgres, relay.run))
    runtime.background("housekeeping", _once_ready(postgres, lambda: _housekeeping(postgres)))
    runtime.background(
        "audit heads", _once_ready(postgres, lambda: audit_heads.publish(postgres, runtime.bus, runtime.key, leases))
    )
    runtime.condition("database", postgres.reachable)
    runtime.on_stop("producers", relay.drain)
    return postgres, leases


def kafka(runtime: "Runtime") -> None:
    """Topics in the background, and the readiness condition."""
    from aiokafka.errors import KafkaError

    async def topics() -> None:
        made = await _retried("the broker", lambda: brokers.ensure_topics(runtime.config), KafkaError)
        if made:
            _LOG.info("topics created", topics=made)
        runtime.topics_there.set()

    runtime.background("topics", topics)
    runtime.condition("kafka", runtime.bus.reachable)


async def serve(runtime: "Runtime", made: Server) -> None:
    """Add what every service offers, and listen."""
    from perennial.v1 import platform_pb2

    postgres = runtime._postgres  # noqa: SLF001 opening is part of the runtime
    made.add(Platform(runtime), platform_pb2.DESCRIPTOR.services_by_name["PlatformService"])
    if runtime.verifier.keys.load is None:
        runtime.api_keys(lambda: _keys_of_registry(runtime))
    await made.start(postgres)
    _settle_memory()


def _settle_memory() -> None:
    """What was loaded so far stays: take it out of the garbage collector's rounds, and have fewer of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _migrated(postgres: Postgres, folder: Path | None) -> None:
    """Migrate; retried while the database cannot be reached, a wrong migration is an error."""
    import asyncpg

    away = (asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
    await _retried("the database", lambda: migrations.migrate(postgres, folder), *away)


async def _retried(what: str, work: Callable[[], Awaitable[T]], *away: type[Exception]) -> T:
    """The result of ``work`` once ``what`` can be reached; a line in the log for every time it cannot."""
    pause = 0.2
    passing: tuple[type[Exception], ...] = (OSError, TimeoutError, *away)
    while True:
        try:
            return await work()
        except passing as error:
            _LOG.warning(f"{what} cannot be reached", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5.0)


def _once_ready(postgres: Postgres, run: Run) -> Run:
    async def waited() -> None:
        await postgres.ready.wait()
        await run()

    return waited


async def _housekeeping(postgres: Postgres) -> None:
    while True:
        await requests.forget_old(postgres)
        await asyncio.sleep(_HOUSEKEEPING_S)


async def _keys_of_registry(runtime: "Runtime") -> list[KnownKey]:
    from perennial.v1 import common_pb2, registry_pb2

    keys: list[KnownKey] = []
    token = ""
    while True:
        page = common_pb2.Page(size=1000, token=token)
        answer = await runtime.peers.registry.ListApiKeys(registry_pb2.ListApiKeysRequest(page=page), timeout=2.5)
        for key in answer.keys:
            if not key.revoked:
                ends = key.expires_at.ToDatetime(tzinfo=UTC) if key.HasField("expires_at") else None
                keys.append(KnownKey(key.digest, key.name, frozenset(key.roles), ends))
        token = answer.next_token
        if not token:
            return keys
