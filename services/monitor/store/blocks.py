"""Performance blocks and paired blocks: exact sums, added to under the lock of their rows."""

from typing import Any

from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries
from perennial.stats.losses import PairedSums

from services.monitor.domain.joining import Contributions, Sums, merged, pair_from, pair_to, sums_from

_BLOCKS = """
select version, variant, start_us, sums from blocks where deployment = $1
and (version, variant, start_us) in (select * from unnest($2::text[], $3::text[], $4::bigint[]))
order by version, variant, start_us for update
"""
_PAIRS = """
select rollout, start_us, sums from paired where deployment = $1
and (rollout, start_us) in (select * from unnest($2::text[], $3::bigint[])) order by rollout, start_us for update
"""


async def add(tx: Transaction, deployment: str, found: Contributions) -> None:
    """Add contributions to a deployment's blocks."""
    if found.blocks:
        await _add_blocks(tx, deployment, found)
    if found.pairs:
        await _add_pairs(tx, deployment, found)


async def _add_blocks(tx: Transaction, deployment: str, found: Contributions) -> None:
    keys = sorted(found.blocks)
    columns = [list(column) for column in zip(*keys, strict=True)]
    await tx.execute(
        "insert into blocks (deployment, version, variant, start_us, end_us) select $1, * from"
        " unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) order by 2, 3, 4 on conflict do nothing",
        deployment, *columns,
    )  # fmt: skip
    rows = await tx.fetch(_BLOCKS, deployment, *columns[:3])
    before = {(row["version"], row["variant"], row["start_us"]): sums_from(row["sums"]) for row in rows}
    after = [merged(before[key[:3]], found.blocks[key]) for key in keys]
    await tx.execute(
        "update blocks b set count = n.count, sums = n.sums from"
        " unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::jsonb[]) as n(version, variant, start_us, count, sums)"
        " where b.deployment = $1 and b.version = n.version and b.variant = n.variant and b.start_us = n.start_us",
        deployment, *columns[:3], [sums.count for sums in after], [sums.to_json() for sums in after],
    )  # fmt: skip


async def _add_pairs(tx: Transaction, deployment: str, found: Contributions) -> None:
    keys = sorted(found.pairs)
    columns = [list(column) for column in zip(*keys, strict=True)]
    await tx.execute(
        "insert into paired (deployment, rollout, start_us) select $1, * from unnest($2::text[], $3::bigint[])"
        " order by 2, 3 on conflict do nothing",
        deployment, *columns,
    )  # fmt: skip
    before = {(r["rollout"], r["start_us"]): pair_from(r["sums"]) for r in await tx.fetch(_PAIRS, deployment, *columns)}
    after = [before[key].merged(found.pairs[key]) for key in keys]
    await tx.execute(
        "update paired p set count = n.count, sums = n.sums from"
        " unnest($2::text[], $3::bigint[], $4::bigint[], $5::jsonb[]) as n(rollout, start_us, count, sums)"
        " where p.deployment = $1 and p.rollout = n.rollout and p.start_us = n.start_us",
        deployment, *columns, [sums.count for sums in after], [pair_to(sums) for sums in after],
    )  # fmt: skip


async def add_shadow_counts(tx: Transaction, deployment: str, counts: dict[str, tuple[int, int]]) -> None:
    """Add to the shadow answers and failures of rollouts."""
    await tx.executemany(
        "insert into shadow_counts values ($1, $2, $3, $4) on conflict (deployment, rollout) do update"
        " set rows = shadow_counts.rows + excluded.rows, failures = shadow_counts.failures + excluded.failures",
        [(deployment, rollout, rows, failures) for rollout, (rows, failures) in sorted(counts.items())],
    )


async def pairs(tx: Queries, deployment: str, rollout: str, until_us: int) -> list[tuple[int, PairedSums]]:
    """The hourly paired blocks of a rollout that end at or before an instant, ascending."""
    rows = await tx.fetch(
        "select start_us, sums from paired where deployment = $1 and rollout = $2 and start_us < $3 order by start_us",
        deployment, rollout, until_us,
    )  # fmt: skip
    return [(row["start_us"], pair_from(row["sums"])) for row in rows]


async def shadow_count(tx: Queries, deployment: str, rollout: str) -> tuple[int, int]:
    """How many shadow answers a rollout has, and how many of them failed."""
    row = await tx.fetchrow(
        "select rows, failures from shadow_counts where deployment = $1 and rollout = $2", deployment, rollout
    )
    return (row["rows"], row["failures"]) if row else (0, 0)


async def of_span(tx: Queries, deployment: str, start_us: int, end_us: int) -> list[tuple[str, str, Sums]]:
    """Version, variant and sums of a deployment's figures in one block."""
    rows = await tx.fetch(
        "select version, variant, sums from blocks where deployment = $1 and start_us = $2 and end_us = $3",
        deployment, start_us, end_us,
    )  # fmt: skip
    return [(row["version"], row["variant"], found) for row in rows if (found := sums_from(row["sums"])) is not None]


async def close(tx: Transaction, deployment: str, end_us: int, chart: float) -> None:
    """Mark every figure of blocks that end at or before an instant as closed."""
    await tx.execute(
        "update blocks set closed = true, chart = $3 where deployment = $1 and end_us <= $2 and not closed",
        deployment,
        end_us,
        chart,
    )


async def page(tx: Queries, deployment: str, version: str, before: int, size: int) -> list[Any]:
    """Blocks with sums, newest first, that start before an instant."""
    return await tx.fetch(
        "select * from blocks where deployment = $1 and ($2 = '' or version = $2) and start_us < $3"
        " order by start_us desc, version, variant limit $4",
        deployment, version, before, size,
    )  # fmt: skip
