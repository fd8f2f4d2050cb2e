"""How does a service reach its tables?

One pool, one schema (the ``search_path``), and transactions in which a state change, its events, its audit rows and
its inbox rows are one fact. Failures of the database itself become ``Unavailable``, ``Aborted`` or ``DeadlineExceeded``.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import orjson

from perennial.errors import Aborted, DeadlineExceeded, InvalidArgument, Unavailable
from perennial.runtime import audit, crash, events
from perennial.runtime.events import Event

if TYPE_CHECKING:
    from perennial.runtime.leases import Lease

T = TypeVar("T")

CONNECT_S = 5.0
QUERY_S = 15.0
EVENT_BYTES = 4 * 1024 * 1024
_SESSION = {"statement_timeout": "15000", "lock_timeout": "10000", "idle_in_transaction_session_timeout": "60000"}
_LOST = (
    asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError, asyncpg.TooManyConnectionsError, asyncpg.InterfaceError,
    asyncpg.InternalClientError, OSError,
)  # fmt: skip
_RACED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)

_PUBLISH = """
insert into outbox (event_id, topic, key, value, headers, aggregate, aggregate_version)
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::bigint[])
"""


def translated(error: BaseException) -> BaseException:
    """What a failure of the database means to a caller; any other error comes back as it is."""
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return DeadlineExceeded("the database did not answer in time")
    if isinstance(error, _RACED):
        return Aborted("lost a race for the same rows; try again")
    if isinstance(error, _LOST):
        return Unavailable("the database cannot be reached; try again later")
    return error


async def _guarded(work: Awaitable[T]) -> T:
    try:
        return await work
    except Exception as error:
        raise translated(error) from error


class Queries:
    """asyncpg's questions and commands, with failures of the database translated."""

    def __init__(self, target: Any) -> None:
        self.__target = target

    @property
    def _target(self) -> Any:
        return self.__target

    async def execute(self, query: str, *args: Any) -> str:
        """Run a command; asyncpg's status text."""
        return await _guarded(self._target.execute(query, *args))

    async def executemany(self, query: str, args: Iterable[Sequence[Any]]) -> None:
        """Run a command for every row of arguments."""
        await _guarded(self._target.executemany(query, args))

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        return await _guarded(self._target.fetch(query, *args))

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        return await _guarded(self._target.fetchrow(query, *args))

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        return await _guarded(self._target.fetchval(query, *args))

    async def copy_records_to_table(self, table: str, *, records: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
        """Bulk insert."""
        return await _guarded(self._target.copy_records_to_table(table, records=records, columns=list(columns)))


class Transaction(Queries):
    """Work that happens whole or not at all."""

    def __init__(self, connection: Any, source: str) -> None:
        super().__init__(connection)
        self.connection = connection
        self.open = True
        self._source = source
        self._events: list[tuple[Event, events.Headers, bytes]] = []
        self._audit: list[audit.Entry] = []
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None

    async def publish(self, event: Event) -> None:
        """Send ``event`` once this transaction is committed: an outbox row, relayed in order per aggregate."""
        value = event.message.SerializeToString()
        if len(value) > EVENT_BYTES:
            raise InvalidArgument(f"{event.message.DESCRIPTOR.name}: {len(value)} bytes are more than an event may have")
        self._events.append((event, events.headers_of(event, source=self._source), value))

    async def audit(self, action: str, subject: str, **detail: Any) -> None:
        """Append to this schema's audit chain at commit; the actor is the caller."""
        self._audit.append(audit.entry(action, subject, detail))

    async def seen(self, consumer: str, event_id: str) -> bool:
        """Whether ``consumer`` handled this event before; remembered with this transaction."""
        done = await self.execute("insert into inbox values ($1, $2) on conflict do nothing", consumer, event_id)
        return done.endswith(" 0")

    async def check(self, lease: "Lease") -> None:
        """Go on only while ``lease`` is current; until commit nobody else can take it. ``Aborted`` otherwise."""
        query = "select 1 from leases where name = $1 and token = $2 for key share"
        if await self.fetchval(query, lease.name, lease.token) is None:
            raise Aborted(f"the lease {lease.name} was taken over by another process")

    async def flush(self) -> bool:
        """Write what was published and audited; True when there are events. Called by the runtime before commit."""
        if self._audit:
            entries, self._audit = self._audit, []
            await _guarded(audit.append(self.connection, entries))
        if not self._events:
            return False
        rows, self._events = self._events, []
        columns = zip(*(_outbox_row(*row) for row in rows), strict=True)
        await self.execute(_PUBLISH, *(list(column) for column in columns))
        return True

    @asynccontextmanager
    async def nested(self) -> AsyncIterator["Transaction"]:
        """A savepoint: what fails inside is undone and the rest stays possible. One task at a time."""
        task = asyncio.current_task()
        if self._holder is task:
            async with self.connection.transaction():
                yield self
            return
        async with self._lock:
            self._holder = task
            try:
                async with self.connection.transaction():
                    yield self
            finally:
                self._holder = None


def _outbox_row(event: Event, headers: events.Headers, value: bytes) -> tuple[Any, ...]:
    pairs = orjson.dumps([[name, text.decode()] for name, text in headers]).decode()
    return event.id, event.topic.name, event.key.encode(), value, pairs, event.aggregate, event.aggregate_version


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

    @property
    def _target(self) -> Any:
        ambient = _AMBIENT.get()
        return super()._target if ambient is None or not ambient.open else ambient.connection

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
            await _guarded(outer.start())
            try:
                yield transaction
                published = await self._flushed(transaction)
            except BaseException:
                transaction.open = False
                await asyncio.shield(_rolled_back(outer))
                raise
            transaction.open = False
            crash.point("transaction.before_commit")
            await _guarded(outer.commit())
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
        connection = await _guarded(self.pool.acquire(timeout=CONNECT_S))
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


async def _rolled_back(outer: Any) -> None:
    try:
        await asyncio.wait_for(outer.rollback(), CONNECT_S)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return  # the server rolls back when the connection goes


async def _prepared(connection: Any) -> None:
    for name, head in (("json", b""), ("jsonb", b"\x01")):
        await connection.set_type_codec(
            name, schema="pg_catalog", format="binary",
            encoder=lambda value, head=head: head + orjson.dumps(value),
            decoder=lambda data, head=head: orjson.loads(bytes(data)[len(head):]),
        )  # fmt: skip


async def _nothing(_connection: Any) -> None:
    """No session state is left behind, so a connection needs no reset between users (it costs a round trip)."""
