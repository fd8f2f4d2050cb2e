"""What makes a state change, its events and its audit rows one fact?"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from perennial.errors import Aborted, InvalidArgument
from perennial.runtime import audit, events
from perennial.runtime.events import Event
from perennial.runtime.queries import Queries, guarded

if TYPE_CHECKING:
    from perennial.runtime.leases import Lease

EVENT_BYTES = 4 * 1024 * 1024
_PUBLISH = """
insert into outbox (event_id, topic, key, value, headers, aggregate, aggregate_version)
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::bigint[])
"""


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
            await guarded(audit.append(self.connection, entries))
        if not self._events:
            return False
        rows, self._events = self._events, []
        columns = zip(*(_outbox_row(*row) for row in rows), strict=True)
        await self.execute(_PUBLISH, *(list(column) for column in columns))
        return True

    @asynccontextmanager
    async def nested(self) -> AsyncIterator["Transaction"]:
        """A savepoint: what fails inside is undone, its events and audit rows too, and the rest stays possible."""
        async with self.alone():
            events_before, audit_before = len(self._events), len(self._audit)
            try:
                async with self.connection.transaction():
                    yield self
            except BaseException:
                del self._events[events_before:], self._audit[audit_before:]
                raise

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep the other tasks of a request off the connection: it can do one thing at a time."""
        task = asyncio.current_task()
        if self._holder is task:
            yield
            return
        async with self._lock:
            self._holder = task
            try:
                yield
            finally:
                self._holder = None


def _outbox_row(event: Event, headers: events.Headers, value: bytes) -> tuple[Any, ...]:
    pairs = orjson.dumps([[name, text.decode()] for name, text in headers]).decode()
    return event.id, event.topic.name, event.key.encode(), value, pairs, event.aggregate, event.aggregate_version
