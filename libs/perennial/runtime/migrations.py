"""How does a schema come to be what the code expects?

The runtime's own migrations first, then the service's, each file once, in order, in a transaction. Migrators wait for
each other by polling: a blocking advisory lock and ``create index concurrently`` deadlock.
"""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from perennial.errors import DeadlineExceeded, FailedPrecondition
from perennial.runtime.postgres import CONNECT_S, Postgres

OWN = Path(__file__).parent / "migrations"
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_POLL_S = 0.1
_LOCK_S = 60.0
_LEDGER = """
create table if not exists migrations (
    origin text not null, name text not null, sha256 text not null,
    applied_at timestamptz not null default now(), primary key (origin, name)
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    origin: str
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """What was applied, so that a later edit is noticed."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def found(folder: Path, origin: str) -> list[Migration]:
    """The migrations of a folder in order; two with one number, or a strange name, are an error."""
    paths = sorted(folder.glob("*.sql"))
    numbers = []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise FailedPrecondition(f"{path}: migrations are called NNNN_name.sql")
        numbers.append(match[1])
    if len(set(numbers)) != len(numbers):
        raise FailedPrecondition(f"{folder}: two migrations have the same number")
    return [Migration(origin, path.name, path.read_text()) for path in paths]


async def migrate(postgres: Postgres, folder: Path | None) -> list[str]:
    """Bring the schema up to date; the names of what was applied. Sets ``postgres.ready``."""
    wanted = found(OWN, "runtime") + (found(folder, "service") if folder else [])
    connection = await asyncpg.connect(postgres.dsn, timeout=CONNECT_S, server_settings={"application_name": "perennial-migrate"})
    try:
        await _locked(connection, postgres.schema)
        if not await connection.fetchval("select 1 from pg_namespace where nspname = $1", postgres.schema):
            await connection.execute(f'create schema "{postgres.schema}"')
        await connection.execute(f'set search_path to "{postgres.schema}"')
        applied = await _applied(connection, wanted)
    finally:
        await connection.close(timeout=CONNECT_S)
    postgres.ready.set()
    return applied


async def _locked(connection: Any, schema: str) -> None:
    deadline = asyncio.get_running_loop().time() + _LOCK_S
    while not await connection.fetchval("select pg_try_advisory_lock(hashtextextended($1, 11))", schema):
        if asyncio.get_running_loop().time() > deadline:
            raise DeadlineExceeded(f"another process has been migrating {schema} for {_LOCK_S:g} s")
        await asyncio.sleep(_POLL_S)


async def _applied(connection: Any, wanted: list[Migration]) -> list[str]:
    await connection.execute(_LEDGER)
    rows = await connection.fetch("select origin, name, sha256 from migrations")
    done = {(row["origin"], row["name"]): row["sha256"] for row in rows}
    applied = []
    for migration in wanted:
        before = done.get((migration.origin, migration.name))
        if before is None:
            await _apply(connection, migration)
            applied.append(migration.name)
        elif before != migration.sha256:
            raise FailedPrecondition(f"{migration.name} was changed after it was applied; write a new migration instead")
    return applied


async def _apply(connection: Any, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.text)
        await connection.execute(
            "insert into migrations (origin, name, sha256) values ($1, $2, $3)",
            migration.origin,
            migration.name,
            migration.sha256,
        )
