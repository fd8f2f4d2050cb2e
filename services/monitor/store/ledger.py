"""The ledger's lines: what was counted, late, dropped, repeated, joined; and what is missing or dead, from the open gaps."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from perennial.runtime.postgres import Transaction
from perennial.runtime.queries import Queries

from services.monitor.domain.streams import Line

_ADD = """
insert into ledger (deployment, version, variant, counted, late, dropped, repeats, outcomes, shadow)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (deployment, version, variant) do update set
counted = ledger.counted + excluded.counted, late = ledger.late + excluded.late, dropped = ledger.dropped + excluded.dropped,
repeats = ledger.repeats + excluded.repeats, outcomes = ledger.outcomes + excluded.outcomes,
shadow = ledger.shadow + excluded.shadow
"""
_COUNTERS = ("counted", "late", "dropped", "repeats", "outcomes", "shadow")
_GAPS = """
select s.version, s.variant, g.reason, sum(g.to_n - g.from_n + 1)::bigint as rows from gaps g
join streams s using (reader, kind, stream)
where g.reader = 'fold' and g.kind = 'predictions' and s.deployment = $1 group by 1, 2, 3
"""


async def add(tx: Transaction, lines: Mapping[Line, Counter[str]]) -> None:
    """Add to the counters, line by line in one order."""
    rows = [(*key, *(line[name] for name in _COUNTERS)) for key, line in sorted(lines.items()) if any(line.values())]
    if rows:
        await tx.executemany(_ADD, rows)


async def lines(tx: Queries, deployment: str) -> list[dict[str, Any]]:
    """Every line of a deployment, with what its open gaps say."""
    found = {(r["version"], r["variant"]): {**dict(r), "missing": 0, "dead_lettered": 0} for r in
             await tx.fetch("select * from ledger where deployment = $1", deployment)}  # fmt: skip
    for gap in await tx.fetch(_GAPS, deployment):
        key = (gap["version"], gap["variant"])
        line = found.setdefault(
            key, {"version": key[0], "variant": key[1], **dict.fromkeys(_COUNTERS, 0), "missing": 0, "dead_lettered": 0}
        )
        line["missing" if gap["reason"] == "missing" else "dead_lettered"] += gap["rows"]
    return [found[key] for key in sorted(found)]


async def unmatched(tx: Queries, deployment: str) -> int:
    """Outcomes that wait for a prediction."""
    return int(await tx.fetchval("select count(*) from waiting where deployment = $1", deployment))
