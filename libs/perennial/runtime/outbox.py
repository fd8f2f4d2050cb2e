"""How do committed events get to Kafka?

One relay a schema, by fenced lease, reads the outbox in order, sends, and deletes what the broker acknowledged. A kill
between the two sends again with the same event ids. Commits of this process wake it at once, those of others by
NOTIFY, and a poll every two seconds covers what neither did.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg
import orjson

from perennial import metrics
from perennial.errors import PerennialError
from perennial.runtime import crash, telemetry
from perennial.runtime.bus import DEADLINE_S, Bus, Outgoing
from perennial.runtime.leases import Lease, Leases
from perennial.runtime.postgres import CONNECT_S, Postgres

LEASE = "outbox"
TTL_S = 5.0
BATCH = 500
POLL_S = 2.0
_READ = """
select id, topic, key, value, headers from outbox
where exists (select 1 from leases where name = $2 and token = $3) order by id limit $1
"""
_LOG = telemetry.log(__name__)


class Relay:
    """Sends the outbox of one schema."""

    def __init__(self, postgres: Postgres, bus: Bus, leases: Leases) -> None:
        self._postgres, self._bus, self._leases = postgres, bus, leases
        self._wake = asyncio.Event()
        self._lease: Lease | None = None
        postgres.on_published = self.published

    def published(self) -> bool:
        """Events were committed in this process; True when the relay runs here and need not be notified."""
        self._wake.set()
        return self._lease is not None

    async def run(self) -> None:
        """Relay for ever, whenever this process holds the lease."""
        async with self._leases.held(LEASE, TTL_S) as lease:
            self._lease = lease
            listener = asyncio.create_task(self._listen())
            try:
                while True:
                    self._wake.clear()
                    if await _finished(self._batch(lease)) < BATCH:
                        await self._woken()
            finally:
                self._lease = None
                listener.cancel()

    async def drain(self, deadline_s: float = 3.0) -> None:
        """Send what is left, as far as the deadline and the lease allow: the last step of a stop."""
        try:
            async with asyncio.timeout(deadline_s):
                lease = await self._leases.acquire(LEASE, TTL_S)
                if lease is None:
                    return  # another process relays
                while await self._batch(lease):
                    pass
                await self._leases.release(lease)
        except (PerennialError, TimeoutError, OSError) as error:
            _LOG.warning("the outbox keeps events for the next start", error=str(error))

    async def _woken(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), POLL_S)
        except TimeoutError:
            return

    async def _batch(self, lease: Lease) -> int:
        """Send the oldest rows and delete the acknowledged ones; how many were deleted."""
        rows = await self._postgres.fetch(_READ, BATCH, lease.name, lease.token)
        telemetry.metric(metrics.OUTBOX_PENDING).set(len(rows))
        if not rows:
            return 0
        failed = set(await self._bus.send([(row["topic"], _outgoing(row)) for row in rows]))
        crash.point("outbox.after_send")
        done = [row["id"] for index, row in enumerate(rows) if index not in failed]
        if done:
            # What is on the topic may be deleted by anybody, so this needs no fence.
            await self._postgres.execute("delete from outbox where id = any($1::bigint[])", done)
            crash.point("outbox.after_delete")
            telemetry.metric(metrics.OUTBOX_RELAYED).inc(len(done))
        if failed:
            await asyncio.sleep(0.2)
        return len(done)

    async def _listen(self) -> None:
        """Be woken by other processes' commits; without a connection the poll does it."""
        while True:
            try:
                connection = await asyncpg.connect(
                    self._postgres.dsn, timeout=CONNECT_S, server_settings=self._postgres.session()
                )
                try:
                    await connection.add_listener(self._postgres.channel, lambda *_: self._wake.set())
                    gone = asyncio.Event()
                    connection.add_termination_listener(lambda _, gone=gone: gone.set())
                    await gone.wait()
                finally:
                    connection.terminate()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                _LOG.debug("not listening for other processes' commits", error=str(error))
            await asyncio.sleep(POLL_S)


async def _finished(batch: Coroutine[Any, Any, int]) -> int:
    """The batch's outcome; a stop lets it end, so that what was sent is deleted and not sent again."""
    task = asyncio.create_task(batch)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=2 * DEADLINE_S)
        raise


def _outgoing(row: Any) -> Outgoing:
    headers = [(name, text.encode()) for name, text in orjson.loads(row["headers"])]
    return Outgoing(row["key"], row["value"], headers)
