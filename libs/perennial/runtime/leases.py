"""Which process may do this now?

A lease is a row with a fencing token that grows with every taking. PostgreSQL's clock decides about expiry, and
``Transaction.check`` about every write, so a holder that slept through its lease cannot change anything.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.errors import Aborted, PerennialError

if TYPE_CHECKING:
    from perennial.runtime.postgres import Postgres

_TAKE = """
insert into leases (name, owner, token, expires_at)
values ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
on conflict (name) do update
set owner = excluded.owner, token = leases.token + 1, expires_at = excluded.expires_at
where leases.expires_at <= clock_timestamp()
returning token
"""
_RENEW = """
update leases set expires_at = clock_timestamp() + make_interval(secs => $3)
where name = $1 and token = $2
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do something until it expires or is taken over."""

    name: str
    token: int
    owner: str


class Leases:
    """The leases of one schema."""

    def __init__(self, postgres: "Postgres") -> None:
        self._postgres = postgres
        self.owner = f"{socket.gethostname()}:{os.getpid()}"

    async def acquire(self, name: str, ttl_s: float) -> Lease | None:
        """The lease, or None while another holds it."""
        async with self._postgres.connection() as connection, connection.transaction():
            # A writer that checked its token holds the row FOR KEY SHARE until it commits: wait for it.
            await connection.execute("set local lock_timeout = '3s'")
            await connection.fetchval("select token from leases where name = $1 for update", name)
            token = await connection.fetchval(_TAKE, name, self.owner, ttl_s)
        return None if token is None else Lease(name, token, self.owner)

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        """Hold it longer; False when it was taken over."""
        done = await self._postgres.execute(_RENEW, lease.name, lease.token, ttl_s)
        return bool(done.endswith(" 1"))

    async def release(self, lease: Lease) -> None:
        """Let others have it now."""
        await self._postgres.execute(
            "update leases set expires_at = clock_timestamp() where name = $1 and token = $2", lease.name, lease.token
        )

    @asynccontextmanager
    async def held(self, name: str, ttl_s: float) -> AsyncIterator[Lease]:
        """Wait for the lease and keep it for the body; the body is cancelled and ``Aborted`` raised when it is lost."""
        lease = await self._waited(name, ttl_s)
        body = asyncio.current_task()
        assert body is not None
        lost = False

        async def keep() -> None:
            nonlocal lost
            await self._kept(lease, ttl_s)
            lost = True
            body.cancel()

        keeper = asyncio.create_task(keep())
        try:
            yield lease
        except asyncio.CancelledError:
            if not lost:
                raise
            body.uncancel()
            raise Aborted(f"the lease {name} was lost") from None
        finally:
            keeper.cancel()
            if not lost:
                await asyncio.shield(self._released(lease))

    async def _waited(self, name: str, ttl_s: float) -> Lease:
        while True:
            lease = await self.acquire(name, ttl_s)
            if lease is not None:
                return lease
            await asyncio.sleep(min(ttl_s / 3, 2.0))

    async def _kept(self, lease: Lease, ttl_s: float) -> None:
        """Renew until the lease is lost; returns then."""
        loop = asyncio.get_running_loop()
        good_until = loop.time() + ttl_s
        while loop.time() < good_until:
            await asyncio.sleep(ttl_s / 3)
            try:
                asked = loop.time()
                if not await asyncio.wait_for(self.renew(lease, ttl_s), max(good_until - asked, 0.01)):
                    return
                good_until = asked + ttl_s
            except (PerennialError, TimeoutError):
                continue  # the database may come back before the lease runs out

    async def _released(self, lease: Lease) -> None:
        try:
            await asyncio.wait_for(self.release(lease), 2.0)
        except (PerennialError, TimeoutError):
            return  # it runs out by itself
