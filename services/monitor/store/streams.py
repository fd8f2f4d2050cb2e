"""Where are readers in their streams? Positions, open gaps, watermarks, and the epochs that fence a worker's cache."""

from collections.abc import Iterable, Mapping

from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries

from services.monitor.domain.positions import Gap, Position
from services.monitor.domain.streams import Key, Stream
from services.monitor.domain.units import OUTCOMES, Source

FOLD = "fold"
LOG = "log"

_LOCK = """
select kind, stream, deployment, version, variant, next_n, watermark_us, announced, ended, partition
from streams where reader = $1 and (kind, stream) in (select * from unnest($2::text[], $3::text[]))
order by kind, stream for update
"""
_GAPS = """
select kind, stream, from_n, to_n, reason from gaps
where reader = $1 and (kind, stream) in (select * from unnest($2::text[], $3::text[])) order by from_n
"""
_SAVE = """
update streams s set deployment = n.deployment, version = n.version, variant = n.variant, next_n = n.next_n,
    watermark_us = n.watermark_us, announced = n.announced, ended = n.ended, partition = n.partition, away = false,
    seen_at = now()
from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::boolean[], $10::boolean[],
    $11::integer[]) as n(kind, stream, deployment, version, variant, next_n, watermark_us, announced, ended, partition)
where s.reader = $1 and s.kind = n.kind and s.stream = n.stream
"""


async def locked(tx: Transaction, reader: str, sources: Mapping[Key, Source]) -> dict[Key, Stream]:
    """The streams' states, each row locked until the transaction ends (in one order everywhere); unknown ones are made."""
    keys = sorted(sources)
    kinds, names = [kind for kind, _ in keys], [name for _, name in keys]
    rows = await tx.fetch(_LOCK, reader, kinds, names)
    if len(rows) < len(keys):
        await tx.execute(
            "insert into streams (reader, kind, stream, deployment) select $1, * from unnest($2::text[], $3::text[], $4::text[])"
            " order by 2, 3 on conflict do nothing",
            reader, kinds, names, [sources[key].deployment for key in keys],
        )  # fmt: skip
        rows = await tx.fetch(_LOCK, reader, kinds, names)
    gaps: dict[Key, list[Gap]] = {}
    for gap in await tx.fetch(_GAPS, reader, kinds, names):
        gaps.setdefault((gap["kind"], gap["stream"]), []).append(Gap(gap["from_n"], gap["to_n"], gap["reason"]))
    return {
        (row["kind"], row["stream"]): Stream(
            Source(row["kind"], row["stream"], row["deployment"], row["version"], row["variant"]),
            Position(row["next_n"], tuple(gaps.get((row["kind"], row["stream"]), ()))),
            row["watermark_us"],
            row["announced"],
            row["ended"],
            row["partition"],
        )
        for row in rows
    }


async def save(tx: Transaction, reader: str, before: Mapping[Key, Stream], after: Mapping[Key, Stream]) -> None:
    """Write the streams that changed or were heard of, and their open gaps."""
    changed = [stream for key, stream in sorted(after.items()) if stream.announced]
    await tx.execute(
        _SAVE, reader, [s.source.kind for s in changed], [s.source.stream for s in changed],
        [s.source.deployment for s in changed], [s.source.version for s in changed], [s.source.variant for s in changed],
        [s.position.next_n for s in changed], [s.watermark_us for s in changed], [s.announced for s in changed],
        [s.ended for s in changed], [s.partition for s in changed],
    )  # fmt: skip
    moved = [s for s in changed if before[s.key].position.gaps != s.position.gaps]
    if not moved:
        return
    await tx.execute(
        "delete from gaps where reader = $1 and (kind, stream) in (select * from unnest($2::text[], $3::text[]))",
        reader, [s.source.kind for s in moved], [s.source.stream for s in moved],
    )  # fmt: skip
    await tx.executemany(
        "insert into gaps values ($1, $2, $3, $4, $5, $6)",
        [(reader, *s.key, gap.first, gap.last, gap.reason) for s in moved for gap in s.position.gaps],
    )


async def epochs(tx: Transaction, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The epoch of each partition, the rows locked until the transaction ends; 0 where nobody took it yet."""
    wanted = sorted(set(partitions))
    rows = await tx.fetch(
        "select topic, partition, epoch from partitions where (topic, partition) in (select * from unnest($1::text[], $2::int[]))"
        " order by topic, partition for update",
        [topic for topic, _ in wanted], [partition for _, partition in wanted],
    )  # fmt: skip
    found = {(row["topic"], row["partition"]): row["epoch"] for row in rows}
    return {key: found.get(key, 0) for key in wanted}


async def take(tx: Transaction, topic: str, partition: int) -> int:
    """The new epoch of a partition: whoever held it before commits nothing more from its cache."""
    epoch: int = await tx.fetchval(
        "insert into partitions values ($1, $2, 1)"
        " on conflict (topic, partition) do update set epoch = partitions.epoch + 1 returning epoch",
        topic, partition,
    )  # fmt: skip
    return epoch


async def watermarks(tx: Queries, deployment: str) -> dict[str, list[int | None]]:
    """The watermarks of a deployment's open streams by kind; a kind with streams of which none is open has an empty list.

    An outcome stream that never told a watermark is none of them: its producer has not declared it.
    """
    rows = await tx.fetch(
        "select kind, watermark_us, ended or away as gone from streams where reader = $2 and deployment = $1 and announced"
        " and (kind = 'predictions' or watermark_us is not null)",
        deployment, FOLD,
    )  # fmt: skip
    found: dict[str, list[int | None]] = {}
    for row in rows:
        open_streams = found.setdefault(row["kind"], [])
        if not row["gone"]:
            open_streams.append(row["watermark_us"])
    return found


async def expire(tx: Queries, kind: str, partitions: Iterable[int], lease_s: float) -> list[str]:
    """Streams on these partitions (read to their ends) that were silent for longer than their lease go away; whose."""
    rows = await tx.fetch(
        "update streams set away = true where reader = $1 and kind = $2 and partition = any($3::int[]) and announced"
        " and not ended and not away and seen_at < now() - make_interval(secs => $4) returning deployment",
        FOLD, kind, list(partitions), lease_s,
    )  # fmt: skip
    return sorted({row["deployment"] for row in rows})


async def positions(tx: Queries, reader: str, deployment: str) -> dict[str, dict[str, int]]:
    """The next position of every stream of a deployment, by kind."""
    rows = await tx.fetch(
        "select kind, stream, next_n from streams where reader = $1 and deployment = $2 and announced", reader, deployment
    )
    found: dict[str, dict[str, int]] = {OUTCOMES: {}, "predictions": {}}
    for row in rows:
        found[row["kind"]][row["stream"]] = row["next_n"]
    return found
