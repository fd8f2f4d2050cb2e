"""How do facts lie in PostgreSQL, and how are those of some entities read?

The body of a row is its times, its sequence number and the view's numbers as 8-byte words, so that the facts of an
entity are one string of bytes that numpy reads as it is. Rows written before a view got more columns are shorter: the
missing columns are null.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from perennial.runtime.postgres import Postgres
from perennial.runtime.queries import Queries

from services.feature.domain.facts import Facts
from services.feature.domain.views import FeatureView

_TIMES = 3
_WORD = 8

_READ = """
select e.version, coalesce(e.rows, 0) as rows, f.bodies, f.lengths, f.texts,
       (select max(id) from files where view_id = $1) as newest_file
from unnest($2::text[]) with ordinality k(key, place)
left join entities e on e.view_id = $1 and e.key = k.key
left join lateral (
    select string_agg(body, ''::bytea) as bodies, array_agg(length(body)) as lengths,
           case when $5 then array_agg(texts) end as texts
    from facts where view_id = $1 and key = k.key and event_time >= $3 and event_time < $4
) f on e.version is not null
order by k.place
"""
_NEWEST = """
select case when count(f.newest) = count(e.key) then min(f.newest) end
from unnest($2::text[]) k(key) left join entities e on e.view_id = $1 and e.key = k.key
left join lateral (
    select max(event_time) as newest from facts where view_id = $1 and key = k.key
) f on e.key is not null
"""
_ANY_TIME = (-(2**62), 2**62)


def bodies(facts: Facts) -> list[bytes]:
    """The body of each row."""
    words = np.empty((len(facts), _TIMES + facts.numbers.shape[1]), dtype="<i8")
    words[:, 0], words[:, 1], words[:, 2] = facts.event, facts.known, facts.seq
    words[:, _TIMES:] = np.ascontiguousarray(facts.numbers).view(np.int64)
    data, width = words.tobytes(), words.shape[1] * _WORD
    return [data[start : start + width] for start in range(0, len(data), width)]


def texts(facts: Facts) -> list[str | None]:
    """The texts of each row as JSON; None for a view without texts."""
    if not facts.texts:
        return [None] * len(facts)
    return [orjson.dumps(row).decode() for row in zip(*(text.tolist() for text in facts.texts), strict=True)]


async def read_facts(
    postgres: Queries, view_id: int, view: FeatureView, keys: Sequence[str], *, since_us: int | None = None,
    until_us: int | None = None,
) -> tuple[tuple[Facts, list[int], list[int]], int | None]:  # fmt: skip
    """The facts of these entities with since <= event time < until, in no order, each entity's version and rows in all; and
    the newest file of old facts, which are not among them.

    A key without facts has version 0. One statement, so facts and versions belong together.
    """
    since = _ANY_TIME[0] if since_us is None else since_us
    until = _ANY_TIME[1] if until_us is None else until_us
    rows = await postgres.fetch(_READ, view_id, list(keys), since, until, bool(view.text_columns))
    found = [(place, row) for place, row in enumerate(rows) if row["bodies"] is not None]
    words = _words([row for _, row in found], len(view.number_columns))
    counts = [len(row["lengths"]) for _, row in found]
    facts = Facts(
        tuple(keys), np.repeat(np.array([place for place, _ in found], dtype=np.int64), counts), words[:, 0], words[:, 1],
        words[:, 2], np.ascontiguousarray(words[:, _TIMES:]).view(np.float64), _text_columns([row for _, row in found], view),
    )  # fmt: skip
    newest_file = rows[0]["newest_file"] if rows else None
    return (facts, [row["version"] or 0 for row in rows], [row["rows"] for row in rows]), newest_file


async def rows_of(postgres: Postgres, view_id: int, keys: Sequence[str]) -> NDArray[np.int64]:
    """How many facts each of these entities has."""
    query = "select key, rows from entities where view_id = $1 and key = any($2::text[])"
    known = {row["key"]: row["rows"] for row in await postgres.fetch(query, view_id, list(keys))}
    return np.array([known.get(key, 0) for key in keys], dtype=np.int64)


async def newest(postgres: Postgres, view_id: int, keys: Sequence[str]) -> int | None:
    """The least of these entities' newest event times; None when facts of one are elsewhere, or none has any."""
    return await postgres.fetchval(_NEWEST, view_id, list(keys))  # type: ignore[no-any-return]


def _words(rows: Sequence[Any], columns: int) -> NDArray[np.int64]:
    width = (_TIMES + columns) * _WORD
    if any(row["lengths"].count(width) != len(row["lengths"]) for row in rows):
        data = b"".join(_padded(row["bodies"], row["lengths"], width) for row in rows)
    else:
        data = b"".join(row["bodies"] for row in rows)
    return np.frombuffer(data, dtype="<i8").reshape(-1, _TIMES + columns)


def _padded(data: bytes, lengths: Sequence[int], width: int) -> bytes:
    null = np.float64("nan").tobytes()
    parts, start = [], 0
    for length in lengths:
        parts += [data[start : start + length], null * ((width - length) // _WORD)]
        start += length
    return b"".join(parts)


def _text_columns(rows: Sequence[Any], view: FeatureView) -> tuple[NDArray[np.object_], ...]:
    count = len(view.text_columns)
    if not count:
        return ()
    columns: list[list[str | None]] = [[] for _ in range(count)]
    for row in rows:
        for text in row["texts"]:
            values = orjson.loads(text) if text else []
            for place, column in enumerate(columns):
                column.append(values[place] if place < len(values) else None)
    return tuple(np.array([*column, None], dtype=object)[:-1] for column in columns)
