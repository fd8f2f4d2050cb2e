"""How does a service reach its tables?

One pool, one schema (the ``search_path``), and transactions in which a state change, its events, its audit rows and
its inbox rows are one fact. Failures of the database itself become ``Unavailable``, ``Aborted`` or ``DeadlineExceeded``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import asyncpg
import orjson

from perennial.errors import Unavailable
from perennial.runtime import crash
from perennial.runtime.queries import Queries, guarded, translated
from perennial.runtime.transaction import Transaction

__all__ = ["CONNECT_S", "Postgres", "Transaction", "translated"]

CONNECT_S = 5.0
QUERY_S = 15.0
_SESSION = {"statement_timeout": "15000", "lock_timeout": "10000", "idle_in_transaction_session_timeout": "60000"}

_AMBIENT: ContextVar[Transaction | None] = ContextVar("perennial_transaction", default=None)


class Postgres(Queries):
    """A service's database. Queries see committed rows, and within a request that has a request id its own as well."""

    def __init__(self, dsn: str, *, schema: str, source: str, pool_size: int = 8) -> None:
        self.dsn = dsn
        self.schema = schema
        self.source = source
        self.ready = asyncio.Event()
        """Set once the schema is migrated."""
        self.on_published: Callable[[], bool] = lambda: False
        """Told after a commit with events; True when the relay runs in this process."""
        self.pool: asyncpg.Pool[Any] = asyncpg.create_pool(
            dsn, min_size=0, max_size=pool_size, command_timeout=QUERY_S, timeout=CONNECT_S,
            max_inactive_connection_lifetime=300.0, init=_prepared, reset=_nothing, server_settings=self.session(),
        )  # fmt: skip
        super().__init__(self.pool)

    async def ask(self, method: str, *args: Any, **options: Any) -> Any:
        """Ask the pool, or the connection of the request's transaction."""
        ambient = _AMBIENT.get()
        if ambient is None or not ambient.open:
            return await super().ask(method, *args, **options)
        async with ambient.alone():
            return await ambient.ask(method, *args, **options)

    def session(self) -> dict[str, str]:
        """The settings of every session of this service."""
        return {"search_path": f'"{self.schema}"', "application_name": f"perennial-{self.schema}", **_SESSION}

    async def open(self) -> None:
        """Make the pool usable; connects to nothing yet."""
        await self.pool

    async def close(self) -> None:
        """Close every connection; those in use get a few seconds."""
        try:
            await asyncio.wait_for(self.pool.close(), CONNECT_S)
        except (TimeoutError, OSError, asyncpg.InterfaceError):
            self.pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction, or a savepoint of the one a request with a request id runs in."""
        ambient = _AMBIENT.get()
        if ambient is not None and ambient.open:
            async with ambient.nested() as joined:
                yield joined
            return
        async with self.connection() as connection:
            transaction = Transaction(connection, self.source)
            outer = connection.transaction()
            await guarded(outer.start())
            try:
                yield transaction
                published = await self._flushed(transaction)
            except BaseException:
                transaction.open = False
                await asyncio.shield(_rolled_back(connection, outer))
                raise
            transaction.open = False
            crash.point("transaction.before_commit")
            await guarded(outer.commit())
            crash.point("transaction.after_commit")
        if published:
            self.on_published()

    async def _flushed(self, transaction: Transaction) -> bool:
        published = await transaction.flush()
        if published and not self.on_published():
            await transaction.execute("select pg_notify($1, '')", self.channel)
        return published

    @property
    def channel(self) -> str:
        """Where a commit with events is announced to a relay in another process."""
        return f"outbox_{self.schema}"

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """One connection of the pool; ``Unavailable`` before the schema is migrated or when none is to be had."""
        if not self.ready.is_set():
            raise Unavailable("the database is not ready; try again later")
        connection = await guarded(self.pool.acquire(timeout=CONNECT_S))
        try:
            yield connection
        finally:
            await self.pool.release(connection, timeout=CONNECT_S)

    @asynccontextmanager
    async def ambient(self) -> AsyncIterator[Transaction]:
        """A transaction that every ``transaction()`` of this task joins."""
        async with self.transaction() as transaction:
            token = _AMBIENT.set(transaction)
            try:
                yield transaction
            finally:
                _AMBIENT.reset(token)

    async def reachable(self) -> str | None:
        """A readiness condition: None, or what is wrong."""
        if not self.ready.is_set():
            return "not migrated yet"
        try:
            await self.fetchval("select 1")
        except Exception as error:  # noqa: BLE001 whatever it is, it is the condition's text
            return f"{type(error).__name__}: {error}"
        return None


async def _rolled_back(connection: Any, outer: Any) -> None:
    try:
        await asyncio.wait_for(outer.rollback(), CONNECT_S)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        with suppress(asyncpg.InterfaceError):  # it is gone already
            connection.terminate()  # the server rolls back when the connection goes


async def _prepared(connection: Any) -> None:
    for name, head in (("json", b""), ("jsonb", b"\x01")):
        await connection.set_type_codec(
            name, schema="pg_catalog", format="binary",
            encoder=lambda value, head=head: head + orjson.dumps(value),
            decoder=lambda data, head=head: orjson.loads(bytes(data)[len(head):]),
        )  # fmt: skip


async def _nothing(_connection: Any) -> None:
    """No session state is left behind, so a connection needs no reset between users (it costs a round trip)."""
