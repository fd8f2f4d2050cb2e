"""Panes, open windows and drift reports."""

from collections.abc import Iterable, Mapping
from typing import Any

from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries

Variant = tuple[str, str, str]
"""Deployment, version and variant."""
Pane = tuple[str, str, str, int, int]
"""Deployment, version, variant, start and partition."""


async def window_starts(tx: Transaction, first_us: Mapping[Variant, int]) -> dict[Variant, int]:
    """Where the open window of each variant begins, made at the given instant where there is none.

    The rows are shared until the transaction ends, so that no window closes under a fold.
    """
    keys = sorted(first_us)
    columns = [list(column) for column in zip(*keys, strict=True)]
    query = (
        "select deployment, version, variant, start_us from windows where (deployment, version, variant) in"
        " (select * from unnest($1::text[], $2::text[], $3::text[])) order by 1, 2, 3 for share"
    )
    rows = await tx.fetch(query, *columns)
    if len(rows) < len(keys):
        await tx.execute(
            "insert into windows (deployment, version, variant, start_us) select * from"
            " unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) order by 1, 2, 3 on conflict do nothing",
            *columns, [first_us[key] for key in keys],
        )  # fmt: skip
        rows = await tx.fetch(query, *columns)
    return {(row["deployment"], row["version"], row["variant"]): row["start_us"] for row in rows}


async def add_late(tx: Transaction, late: Mapping[Variant, int]) -> None:
    """Count rows that came for a closed window."""
    if not late:
        return
    await tx.executemany(
        "update windows set late = late + $4 where deployment = $1 and version = $2 and variant = $3",
        [(*key, rows) for key, rows in sorted(late.items())],
    )


async def states(tx: Queries, panes: Iterable[Pane]) -> dict[Pane, tuple[int, bytes]]:
    """Rows and folded state of panes."""
    wanted = sorted(panes)
    if not wanted:
        return {}
    rows = await tx.fetch(
        "select * from panes where (deployment, version, variant, pane_us, partition) in"
        " (select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[]))",
        *(list(column) for column in zip(*wanted, strict=True)),
    )
    return {(r["deployment"], r["version"], r["variant"], r["pane_us"], r["partition"]): (r["rows"], r["state"]) for r in rows}


async def save(tx: Transaction, panes: Mapping[Pane, tuple[int, bytes]]) -> None:
    """Write the folded state of panes."""
    if not panes:
        return
    keys = sorted(panes)
    await tx.execute(
        "insert into panes select * from"
        " unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::bigint[], $7::bytea[])"
        " on conflict (deployment, version, variant, pane_us, partition) do update"
        " set rows = excluded.rows, state = excluded.state",
        *(list(column) for column in zip(*keys, strict=True)),
        [panes[k][0] for k in keys], [panes[k][1] for k in keys],
    )  # fmt: skip


async def between(tx: Queries, variant: Variant, start_us: int, end_us: int) -> list[tuple[int, int, bytes]]:
    """Start, rows and state of a variant's panes that begin in [start, end), every partition's."""
    rows = await tx.fetch(
        "select pane_us, rows, state from panes where deployment = $1 and version = $2 and variant = $3"
        " and pane_us >= $4 and pane_us < $5 order by pane_us, partition",
        *variant, start_us, end_us,
    )  # fmt: skip
    return [(row["pane_us"], row["rows"], row["state"]) for row in rows]


async def open_windows(tx: Queries, deployment: str) -> list[Any]:
    """The open windows of a deployment."""
    return await tx.fetch("select * from windows where deployment = $1 order by version, variant", deployment)


async def lock_window(tx: Transaction, variant: Variant, start_us: int) -> Any:
    """The open window that begins there, locked; None when another worker closes it or has closed it."""
    return await tx.fetchrow(
        "select * from windows where deployment = $1 and version = $2 and variant = $3 and start_us = $4 for update skip locked",
        *variant, start_us,
    )  # fmt: skip


async def move_window(tx: Transaction, variant: Variant, start_us: int, *, drifting: bool, event_id: str) -> None:
    """Begin the next window; rows before it are late from now on, and panes of long ago are let go."""
    await tx.execute(
        "update windows set start_us = $4, late = 0, drifting = $5, event_id = $6"
        " where deployment = $1 and version = $2 and variant = $3",
        *variant, start_us, drifting, event_id,
    )  # fmt: skip


async def add_report(tx: Transaction, variant: Variant, report: Mapping[str, Any]) -> None:
    """Keep the report of a closed window."""
    await tx.execute(
        "insert into reports (report_id, deployment, version, variant, start_us, end_us, rows, late, score, severity, columns,"
        " recommendations) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        report["report_id"], *variant, report["start_us"], report["end_us"], report["rows"], report["late"], report["score"],
        report["severity"], report["columns"], report["recommendations"],
    )  # fmt: skip


async def last_reports(tx: Queries, variant: Variant, count: int) -> list[Any]:
    """The last reports of a variant, newest last."""
    rows = await tx.fetch(
        "select * from reports where deployment = $1 and version = $2 and variant = $3 order by end_us desc limit $4",
        *variant,
        count,
    )
    return rows[::-1]


async def reports_page(tx: Queries, deployment: str, before: int, size: int) -> list[Any]:
    """Reports, newest first, older than number ``before``."""
    return await tx.fetch(
        "select * from reports where deployment = $1 and n < $2 order by n desc limit $3", deployment, before, size
    )


async def counted(tx: Queries, deployment: str) -> list[Any]:
    """Rows by version, variant and pane."""
    return await tx.fetch(
        "select version, variant, pane_us, sum(rows)::bigint as rows from panes where deployment = $1 group by 1, 2, 3",
        deployment,
    )


async def forget(tx: Queries, deployment: str, before_us: int) -> None:
    """Let panes go that begin before an instant and are in a closed window."""
    await tx.execute(
        "delete from panes p using windows w where p.deployment = $1 and p.pane_us < $2 and w.deployment = p.deployment"
        " and w.version = p.version and w.variant = p.variant and p.pane_us < w.start_us",
        deployment, before_us,
    )  # fmt: skip
