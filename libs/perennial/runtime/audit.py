"""Who did what, and can anybody have changed the record since?

Every row carries the hash of the row before it, so an edited, deleted or swapped row breaks the chain at that row;
a cut end disagrees with the head row, and a forged head with the signed heads on ``perennial.audit``.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from perennial.clock import to_us
from perennial.runtime.identity import caller

GENESIS = bytes(32)
_PAGE = 5000
_APPEND = """
with added as (
    insert into audit (n, at_us, actor, action, subject, detail, previous, hash)
    select * from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[])
)
update audit_head set n = $9, hash = $10
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line to be added."""

    at_us: int
    actor: str
    action: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a walk over the chain."""

    rows: int
    first_bad: int
    """0 when intact."""
    reason: str
    head: bytes

    @property
    def intact(self) -> bool:
        """Whether every row fits."""
        return self.first_bad == 0


def entry(action: str, subject: str, detail: Mapping[str, Any]) -> Entry:
    """A line in the caller's name, now."""
    who = caller()
    text = orjson.dumps(detail, option=orjson.OPT_SORT_KEYS, default=str).decode()
    actor = who.name if who.kind == "service" else f"{who.kind}:{who.name}"
    return Entry(to_us(datetime.now(UTC)), actor, action, subject, text)


def link(previous: bytes, n: int, line: Entry) -> bytes:
    """The hash of row ``n``: sha256 over the hash before it and everything in the row."""
    body = orjson.dumps([n, line.at_us, line.actor, line.action, line.subject, line.detail])
    return hashlib.sha256(previous + body).digest()


async def append(connection: Any, lines: list[Entry]) -> None:
    """Add ``lines``; the head's lock orders the writers of a schema."""
    head = await connection.fetchrow("select n, hash from audit_head for update")
    n, previous = head["n"], head["hash"]
    rows = []
    for line in lines:
        n += 1
        digest = link(previous, n, line)
        rows.append((n, line.at_us, line.actor, line.action, line.subject, line.detail, previous, digest))
        previous = digest
    columns = [list(column) for column in zip(*rows, strict=True)]
    await connection.execute(_APPEND, *columns, n, previous)


async def verify(connection: Any, *, published: Mapping[int, bytes] | None = None) -> Verdict:
    """Walk the whole chain; ``published`` are the heads known from outside, by row number."""
    known = dict(published or {})
    head = await connection.fetchrow("select n, hash from audit_head")
    n, previous = 0, GENESIS
    while page := await connection.fetch("select * from audit where n > $1 order by n limit $2", n, _PAGE):
        for row in page:
            reason = _fault(row, n + 1, previous, known)
            if reason:
                return Verdict(n, n + 1, reason, previous)
            n, previous = row["n"], row["hash"]
    beyond = min((number for number in known if number > n), default=0)
    if head is None or (head["n"], head["hash"]) != (n, previous) or beyond:
        return Verdict(n, n + 1, "rows after this one are missing: the head names a later row", previous)
    return Verdict(n, 0, "", previous)


def _fault(row: Any, expected: int, previous: bytes, known: Mapping[int, bytes]) -> str:
    if row["n"] != expected:
        return f"the row is missing; the next one is {row['n']}"
    if row["previous"] != previous:
        return "it does not follow the row before it"
    line = Entry(row["at_us"], row["actor"], row["action"], row["subject"], row["detail"])
    if link(previous, expected, line) != row["hash"]:
        return "its content does not match its hash"
    if known.get(expected, row["hash"]) != row["hash"]:
        return "its hash is not the one that was published"
    return ""
