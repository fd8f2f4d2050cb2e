"""The manifest of the prediction log: which files hold what."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries


@dataclass(frozen=True, slots=True)
class File:
    """One immutable file; ``from_us`` and ``to_us`` are the least and greatest event time (outcomes: known at)."""

    key: str
    deployment: str
    kind: str
    sha256: str
    rows: int
    from_us: int
    to_us: int


async def add(tx: Transaction, files: Iterable[File]) -> None:
    """Name files that are written."""
    await tx.executemany(
        "insert into log_files (key, deployment, kind, sha256, rows, from_us, to_us) values ($1, $2, $3, $4, $5, $6, $7)"
        " on conflict (key) do nothing",
        [(f.key, f.deployment, f.kind, f.sha256, f.rows, f.from_us, f.to_us) for f in files],
    )


async def files(tx: Queries, deployment: str, from_us: int) -> list[Any]:
    """The files of a deployment that reach past an instant, oldest first."""
    return await tx.fetch("select * from log_files where deployment = $1 and to_us >= $2 order by n", deployment, from_us)
