"""When does a view's history leave PostgreSQL? Once there is much of it, its older half moves to Parquet, exactly once.

Rows are read, written to a file and deleted in one repeatable-read transaction, which also notes the file: what is
deleted is what was read, whatever is written meanwhile, and a reader sees each row on one side or the other.
"""

import asyncio
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from perennial.runtime import crash
from perennial.runtime.objects import Objects
from perennial.runtime.postgres import Postgres, Transaction

from services.feature.domain.facts import Facts
from services.feature.store import facts as stored
from services.feature.store.catalog import Catalog, KnownView
from services.feature.store.files import BUCKETS, bucket_of, write_facts

EVERY_S = 60.0
_SIZES = """
select v.name from views v join pg_class c on c.oid = ('facts_' || v.id)::regclass where c.reltuples >= $1
"""
_MIDDLE = "select percentile_disc(0.5) within group (order by event_time) from facts where view_id = $1"
_KEYS = "select key, rows from entities where view_id = $1 order by key"
_FILE = "insert into files (view_id, bucket, object_key, rows, least_event, greatest_event) values ($1, $2, $3, $4, $5, $6)"
_DELETE = "delete from facts where view_id = $1 and key = any($2::text[]) and event_time < $3"


@dataclass(frozen=True, slots=True)
class Moved:
    """What a compaction did."""

    rows: int
    files: int


class Compaction:
    """Moves old facts to files."""

    def __init__(self, postgres: Postgres, catalog: Catalog, objects: Objects, *, most_rows: int) -> None:
        self._postgres, self._catalog, self._objects, self._most = postgres, catalog, objects, most_rows

    async def run(self) -> None:
        """Compact what has grown too large, again and again; runs until cancelled."""
        while True:
            for row in await self._postgres.fetch(_SIZES, self._most):
                await self.compact(await self._catalog.get(row["name"]))
            await asyncio.sleep(EVERY_S)

    async def compact(self, known: KnownView) -> Moved:
        """Move the older half of a view's facts, bucket by bucket of keys."""
        before = await self._postgres.fetchval(_MIDDLE, known.id)
        if before is None:
            return Moved(0, 0)
        by_bucket: dict[int, list[str]] = {}
        for row in await self._postgres.fetch(_KEYS, known.id):
            by_bucket.setdefault(bucket_of(row["key"]), []).append(row["key"])
        counts = [await self._moved(known, bucket, by_bucket[bucket], before) for bucket in range(BUCKETS) if bucket in by_bucket]
        return Moved(sum(counts), sum(1 for count in counts if count))

    async def _moved(self, known: KnownView, bucket: int, keys: list[str], before: int) -> int:
        async with self._postgres.transaction() as transaction:
            await transaction.execute("set transaction isolation level repeatable read")
            (facts, _, _), _ = await stored.read_facts(transaction, known.id, known.view, keys, until_us=before)
            if not len(facts):
                return 0
            await self._written(transaction, known, bucket, facts)
            crash.point("feature.before_delete")
            deleted = await transaction.execute(_DELETE, known.id, keys, before)
            assert deleted == f"DELETE {len(facts)}", f"{deleted} is not the {len(facts)} rows of the file"
        return len(facts)

    async def _written(self, transaction: Transaction, known: KnownView, bucket: int, facts: Facts) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "facts.parquet"
            await asyncio.to_thread(write_facts, known.view, facts, path)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            key = f"features/{known.id}/{bucket:02d}/{digest}.parquet"
            await self._objects.put(key, path)
        bounds = int(np.min(facts.event)), int(np.max(facts.event))
        await transaction.execute(_FILE, known.id, bucket, key, len(facts), *bounds)
