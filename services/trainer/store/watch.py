"""Who waits for a change of a job, and how do they learn of it within milliseconds?

PostgreSQL tells every trainer process of every change at its commit; each process wakes those of its callers and workers
that wait. A lost connection only makes them look again every few seconds.
"""

import asyncio
from collections.abc import AsyncIterator

from perennial.errors import NotFound
from perennial.runtime.postgres import Postgres

from services.trainer.domain.job import Job
from services.trainer.store.jobs import DECISION, Jobs

LOOK_AGAIN_S = 3.0


class Watch:
    """Wakes whoever waits for a job."""

    def __init__(self, postgres: Postgres, jobs: Jobs) -> None:
        self._postgres = postgres
        self._jobs = jobs
        self._waiting: set[asyncio.Event] = set()

    async def listen(self) -> None:
        """Hear of changes until the connection is lost (then this is started again)."""
        await self._postgres.ready.wait()
        lost = asyncio.Event()
        async with self._postgres.connection() as connection:
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(self._jobs.channel, self._wake)
            self._wake()
            try:
                await lost.wait()
            finally:
                if not lost.is_set():
                    await connection.remove_listener(self._jobs.channel, self._wake)

    def _wake(self, *_told: object) -> None:
        for event in self._waiting:
            event.set()

    async def changed(self, within_s: float = LOOK_AGAIN_S) -> None:
        """Return at the next change of any job, or after a while."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), max(within_s, 0.0))
        except TimeoutError:
            return
        finally:
            self._waiting.discard(event)

    async def follow(self, key: str) -> AsyncIterator[Job]:
        """The job at once and after every change until it ended; one asked for by its decision may not exist yet."""
        event = asyncio.Event()
        self._waiting.add(event)
        last: Job | None = None
        try:
            while last is None or not last.ended:
                event.clear()
                job = await self._looked(key)
                if job is not None and job != last:
                    last = job
                    yield job
                    continue
                try:
                    await asyncio.wait_for(event.wait(), LOOK_AGAIN_S)
                except TimeoutError:
                    continue
        finally:
            self._waiting.discard(event)

    async def _looked(self, key: str) -> Job | None:
        try:
            return await self._jobs.get(key)
        except NotFound:
            if key.startswith(DECISION):
                return None
            raise


