"""How is PostgreSQL asked, and what does its failure mean to a caller?"""

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar

import asyncpg

from perennial.errors import Aborted, DeadlineExceeded, Unavailable

T = TypeVar("T")

_LOST = (
    asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError, asyncpg.TooManyConnectionsError, asyncpg.InterfaceError,
    asyncpg.InternalClientError, OSError,
)  # fmt: skip
_RACED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


def translated(error: BaseException) -> BaseException:
    """What a failure of the database means to a caller; any other error comes back as it is."""
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return DeadlineExceeded("the database did not answer in time")
    if isinstance(error, _RACED):
        return Aborted("lost a race for the same rows; try again")
    if isinstance(error, _LOST):
        return Unavailable("the database cannot be reached; try again later")
    return error


async def guarded(work: Awaitable[T]) -> T:
    """The result of work on the database, its failures translated."""
    try:
        return await work
    except Exception as error:
        raise translated(error) from error


class Queries:
    """asyncpg's questions and commands, with failures of the database translated."""

    def __init__(self, target: Any) -> None:
        self._target = target

    async def ask(self, method: str, *args: Any, **options: Any) -> Any:
        """Call asyncpg's ``method``."""
        try:
            return await getattr(self._target, method)(*args, **options)
        except Exception as error:
            raise translated(error) from error

    async def execute(self, query: str, *args: Any) -> str:
        """Run a command; asyncpg's status text."""
        return str(await self.ask("execute", query, *args))

    async def executemany(self, query: str, args: Iterable[Sequence[Any]]) -> None:
        """Run a command for every row of arguments."""
        await self.ask("executemany", query, args)

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        return list(await self.ask("fetch", query, *args))

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        row: asyncpg.Record | None = await self.ask("fetchrow", query, *args)
        return row

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first column of the first row, or None."""
        return await self.ask("fetchval", query, *args)

    async def copy_records_to_table(self, table: str, *, records: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
        """Bulk insert."""
        return str(await self.ask("copy_records_to_table", table, records=records, columns=list(columns)))
