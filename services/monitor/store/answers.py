"""What was answered, and what turned out true: batches of outputs, shadow answers, truths and outcomes that wait."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries

from services.monitor.domain.deployments import SHADOW
from services.monitor.domain.joining import Answer, Truth
from services.monitor.domain.streams import Taken
from services.monitor.domain.units import Floats, Outcome, Shadows

Place = tuple[str, int]
"""Stream and position of a prediction."""

_FOUND = """
select w.stream, w.n, b.deployment, b.version, b.variant, b.first_n, b.last_n, b.outputs
from unnest($1::text[], $2::bigint[]) as w(stream, n)
join lateral (select * from batches b where b.stream = w.stream and b.first_n <= w.n order by b.first_n desc limit 1) b
on b.last_n >= w.n
"""
_KEEP_SHADOWS = """
insert into shadows (stream, n, version, deployment, rollout, failed, outputs, event_us)
select * from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::bytea[], $8::bigint[])
on conflict do nothing returning stream, n, version
"""
_WAITING = """
delete from waiting w using unnest($1::text[], $2::bigint[], $3::bigint[]) as r(stream, first_n, last_n)
where w.stream = r.stream and w.n between r.first_n and r.last_n
returning w.deployment, w.prediction_id, w.revision, w.stream, w.n, w.known_us, w.number, w.label
"""


async def keep(tx: Transaction, taken: Iterable[Taken]) -> None:
    """Keep the outputs of new rows, a row a range."""
    rows = []
    for item in taken:
        batch, source = item.batch, item.batch.source
        for start, end in item.ranges:
            part = slice(start - batch.first_n, end - batch.first_n + 1)
            times = batch.event_us[part]
            stream, first, last = (batch.at[0], batch.at[1], batch.at[1]) if batch.at else (source.stream, start, end)
            rows.append((stream, first, last, source.deployment, source.version, source.variant,
                         times.astype("<i8").tobytes(), packed(batch.scores[part]), int(times.max())))  # fmt: skip
    await tx.copy_records_to_table(
        "batches", records=rows,
        columns=["stream", "first_n", "last_n", "deployment", "version", "variant", "event_us", "outputs", "greatest_us"],
    )  # fmt: skip


async def answers(tx: Queries, places: Sequence[Place]) -> dict[Place, Answer]:
    """What was answered at these places, where it is known."""
    if not places:
        return {}
    rows = await tx.fetch(_FOUND, [stream for stream, _ in places], [n for _, n in places])
    found = {}
    for row in rows:
        held = row["last_n"] - row["first_n"] + 1
        scores = np.frombuffer(row["outputs"], dtype="<f8").reshape(held, -1)[row["n"] - row["first_n"]]
        found[row["stream"], row["n"]] = Answer(
            row["version"], row["variant"], tuple(scores.tolist()), deployment=row["deployment"]
        )
    return found


async def keep_shadows(tx: Transaction, shadows: Sequence[Shadows]) -> list[tuple[Place, Answer, bool]]:
    """Keep shadow answers; those that are new, and whether each failed."""
    rows = [
        (unit.source.stream, int(n), unit.version, unit.source.deployment, unit.rollout, bool(failed), packed(scores), int(us))
        for unit in shadows
        for n, failed, scores, us in zip(unit.positions, unit.failed, unit.scores, unit.event_us, strict=True)
    ]
    if not rows:
        return []
    done = await tx.fetch(_KEEP_SHADOWS, *(list(column) for column in zip(*rows, strict=True)))
    new = {(row["stream"], row["n"], row["version"]) for row in done}
    found = {row[:3]: row for row in rows if row[:3] in new}
    return [((r[0], r[1]), Answer(r[2], SHADOW, unpacked(r[6]), r[4]), r[5]) for r in found.values()]


async def shadows(tx: Queries, places: Sequence[Place]) -> dict[Place, list[Answer]]:
    """The shadow answers at these places that did not fail."""
    found: defaultdict[Place, list[Answer]] = defaultdict(list)
    if places:
        rows = await tx.fetch(
            "select stream, n, version, rollout, outputs from shadows where not failed"
            " and (stream, n) in (select * from unnest($1::text[], $2::bigint[]))",
            [stream for stream, _ in places], [n for _, n in places],
        )  # fmt: skip
        for row in rows:
            found[row["stream"], row["n"]].append(Answer(row["version"], SHADOW, unpacked(row["outputs"]), row["rollout"]))
    return found


def packed(scores: Floats) -> bytes:
    """Numbers as bytes."""
    return np.ascontiguousarray(scores, dtype="<f8").tobytes()


def unpacked(data: bytes) -> tuple[float, ...]:
    """The numbers of such bytes."""
    return tuple(np.frombuffer(data, dtype="<f8").tolist())


async def truths(tx: Queries, places: Sequence[Place]) -> dict[Place, Truth]:
    """The truths in force at these places."""
    if not places:
        return {}
    rows = await tx.fetch(
        "select stream, n, revision, known_us, number, label from truths"
        " where (stream, n) in (select * from unnest($1::text[], $2::bigint[]))",
        [stream for stream, _ in places], [n for _, n in places],
    )  # fmt: skip
    return {(r["stream"], r["n"]): Truth(r["revision"], r["known_us"], r["number"], r["label"]) for r in rows}


async def set_truths(tx: Transaction, deployment: str, found: dict[Place, Truth]) -> None:
    """Write the truths in force."""
    items = sorted(found.items())
    await tx.execute(
        "insert into truths (stream, n, deployment, revision, known_us, number, label) select s, n, $1, r, k, v, l from"
        " unnest($2::text[], $3::bigint[], $4::int[], $5::bigint[], $6::float8[], $7::text[]) as x(s, n, r, k, v, l)"
        " on conflict (stream, n) do update set revision = excluded.revision, number = excluded.number, label = excluded.label",
        deployment, [p[0] for p, _ in items], [p[1] for p, _ in items], [t.revision for _, t in items],
        [t.known_us for _, t in items], [t.number for _, t in items], [t.label for _, t in items],
    )  # fmt: skip


async def wait(tx: Transaction, outcomes: Iterable[Outcome]) -> None:
    """Keep outcomes whose prediction has not come yet."""
    rows = [(o.deployment, o.prediction_id, o.revision, o.stream, o.n, o.known_us, o.number, o.label) for o in outcomes]
    if not rows:
        return
    await tx.executemany(
        "insert into waiting (deployment, prediction_id, revision, stream, n, known_us, number, label)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        rows,
    )


def _outcome(row: object) -> Outcome:
    r: dict[str, object] = dict(row)  # type: ignore[call-overload]
    return Outcome(**r)  # type: ignore[arg-type]


async def called(tx: Transaction, taken: Iterable[Taken]) -> list[Outcome]:
    """Outcomes that waited for rows that have come now; they wait no longer."""
    ranges = [
        (item.batch.at[0], item.batch.at[1], item.batch.at[1]) if item.batch.at else (item.batch.source.stream, start, end)
        for item in taken
        for start, end in item.ranges
    ]
    if not ranges:
        return []
    rows = await tx.fetch(_WAITING, *(list(column) for column in zip(*ranges, strict=True)))
    return [_outcome(row) for row in sorted(rows, key=lambda r: (r["stream"], r["n"], r["revision"]))]


async def repeated(tx: Queries, taken: Sequence[Taken]) -> set[Place]:
    """Which of the rows that a system outside named are kept already."""
    places = [item.batch.at for item in taken if item.batch.at is not None]
    return set(await answers(tx, places)) if places else set()
