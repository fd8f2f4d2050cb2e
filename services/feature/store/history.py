"""The facts of entities, wherever they lie: recent ones in PostgreSQL, old ones in Parquet on S3."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perennial.runtime.objects import Objects
from perennial.runtime.postgres import Postgres

from services.feature.domain.facts import Facts
from services.feature.store import facts as stored
from services.feature.store.catalog import KnownView
from services.feature.store.files import StoredFile, bucket_of, read_facts_of

_FILES = "select id, bucket, object_key, least_event, greatest_event from files where view_id = $1 order by id"
_NEWEST_FILE = "select max(id) from files where view_id = $1"


@dataclass(frozen=True, slots=True)
class Found:
    """Facts of entities, each entity's version and how many facts it has in all; they belong together."""

    facts: Facts
    versions: list[int]
    rows: list[int]


class History:
    """Reads facts; files are fetched once and kept in ``folder``."""

    def __init__(self, postgres: Postgres, objects: Objects, folder: Path) -> None:
        self._postgres, self._objects, self._folder = postgres, objects, folder
        self._files: dict[int, list[StoredFile]] = {}
        self._fetching = asyncio.Lock()

    async def read(
        self, known: KnownView, keys: Sequence[str], *, since_us: int | None = None, until_us: int | None = None
    ) -> Found:
        """The facts of these entities with since <= event time < until, in no order. A key without facts has version 0."""
        if not keys:
            return Found(Facts.none((), known.view), [], [])
        while True:
            found, newest_file = await stored.read_facts(
                self._postgres, known.id, known.view, keys, since_us=since_us, until_us=until_us
            )
            files = self._files.get(known.id, [])
            if newest_file == (files[-1].id if files else None):
                break
            rows = await self._postgres.fetch(_FILES, known.id)
            self._files[known.id] = [StoredFile(*row.values()) for row in rows]
        buckets = {bucket_of(key) for key in keys} if files else set()
        facts, versions, counts = found
        for file in files:
            if file.overlaps(buckets, since_us, until_us):
                path = await self._local(file)
                old = await asyncio.to_thread(read_facts_of, known.view, path, keys, since_us, until_us)
                facts = facts.joined(old) if len(facts) else old
        return Found(facts, versions, counts)

    async def newest(self, known: KnownView, keys: Sequence[str]) -> int | None:
        """The least of these entities' newest event times in PostgreSQL; None when facts of one are elsewhere."""
        return await stored.newest(self._postgres, known.id, keys)

    async def _local(self, file: StoredFile) -> Path:
        path = self._folder / file.object_key
        async with self._fetching:
            if not path.is_file():
                await self._objects.fetch(file.object_key, path)
        return path
