"""How does a write come to be in both stores, once?

One transaction takes the stream's row (so repeats of its positions are seen), stores the rows, counts up the version of
every entity written and notes the write as unapplied; then the entities' new states go to the online store in one round
trip. The note is removed with a later write. A write cut short in between is finished by its repeat, or by the sweep.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from perennial import metrics
from perennial.errors import Aborted
from perennial.runtime import crash, telemetry
from perennial.runtime.postgres import Postgres, Transaction

from services.feature.domain.facts import Facts
from services.feature.domain.packing import packed, unpacked
from services.feature.domain.positions import new_positions, with_positions
from services.feature.domain.states import trimmed, with_facts
from services.feature.store import facts as stored_facts
from services.feature.store.catalog import Catalog, KnownView
from services.feature.store.online import Online

_ROWS_BITS = 24
SWEEP_S = 5.0
STALE_S = 10.0
SETTLED_S = 5.0
"""An append-only file that is synced every second holds what was written this long ago."""

_BEGIN = """
with s as (
    insert into streams (stream) select $1 where $1 <> ''
    on conflict (stream) do update set stream = excluded.stream returning taken
)
select nextval('writes') as write_id, coalesce((select taken from s), '{}') as taken
"""
_STORE = """
with current as (select from catalog where version = $1),
stored as (
    insert into facts (view_id, key, event_time, seq, body, texts)
    select r.* from unnest($2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[]) r, current
),
noted as (insert into unapplied (write_id, stream) select $11, $12 from current),
removed as (delete from unapplied where write_id = any($13::bigint[])),
taken as (update streams set taken = $14 from current where stream = $12)
insert into entities as e (view_id, key, version, rows)
select r.view_id, r.key, 1, r.rows from unnest($8::int[], $9::text[], $10::bigint[]) r(view_id, key, rows), current
on conflict (view_id, key) do update set version = e.version + 1, rows = e.rows + excluded.rows
returning view_id, key, version
"""
_WRITTEN = "select distinct view_id, key from facts where seq >= $1 and seq < $2"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one view."""

    known: KnownView
    facts: Facts


@dataclass(frozen=True, slots=True)
class Stored:
    """What a write did."""

    new: int
    repeated: int


class Writer:
    """Writes facts to PostgreSQL, then to the online store."""

    def __init__(self, postgres: Postgres, catalog: Catalog, online: Online) -> None:
        self._postgres, self._catalog, self._online = postgres, catalog, online
        self._applied: dict[int, float] = {}
        self._under_way: set[int] = set()

    async def write(self, parts: Sequence[Part], stream: str, first: int) -> Stored:
        """Store the rows of ``parts``, positions ``first`` onwards of ``stream``; both stores hold them on return.

        Aborted when a view changed meanwhile: check the rows again, then write again.
        """
        rows = sum(len(part.facts) for part in parts)
        settled = self._settled()
        write_id = 0
        try:
            async with self._postgres.transaction() as transaction:
                begun = await transaction.fetchrow(_BEGIN, stream)
                assert begun is not None
                write_id, taken = begun["write_id"], begun["taken"]
                fresh = new_positions(taken, first, rows) if stream else np.ones(rows, dtype=bool)
                new = _joined(_fresh(parts, fresh, write_id))
                if new:
                    self._under_way.add(write_id)
                    after = with_positions(taken, first, rows) if stream else []
                    note = (write_id, stream, settled, after)
                    touched = await self._store(transaction, new, note)
        except BaseException:
            self._under_way.discard(write_id)
            raise
        crash.point("feature.before_online")
        if new:
            for one in settled:
                self._applied.pop(one, None)
            await self._apply(new, touched, write_id)
        for part in _fresh(parts, ~fresh, write_id):  # the write they came with may have been cut short
            if part.known.view.online:
                await self._online.refresh(part.known, part.facts.keys)
        for part in new:
            telemetry.metric(metrics.FEATURE_ROWS).labels(part.known.view.name).inc(len(part.facts))
        count = int(fresh.sum())
        return Stored(count, rows - count)

    async def _store(self, transaction: Transaction, parts: Sequence[Part], note: tuple[Any, ...]) -> dict[tuple[int, str], int]:
        """The versions of the entities that were written."""
        entities = sorted(
            (part.known.id, part.facts.keys[place], count)
            for part in parts
            for place, count in enumerate(np.bincount(part.facts.entity, minlength=len(part.facts.keys)).tolist())
        )
        touched = await transaction.fetch(
            _STORE, self._catalog.version, *_columns(parts), *(list(column) for column in zip(*entities, strict=True)), *note
        )
        if not touched:
            await self._catalog.load()
            raise Aborted("a feature view changed at the same time; write again")
        return {(row["view_id"], row["key"]): row["version"] for row in touched}

    async def _apply(self, parts: Sequence[Part], touched: dict[tuple[int, str], int], write_id: int) -> None:
        try:
            values: list[tuple[str, bytes]] = []
            for part in parts:
                if part.known.view.online:
                    versions = [touched[part.known.id, key] for key in part.facts.keys]
                    values += await self._states(part, versions)
            await self._online.put(values)
            self._applied[write_id] = time.monotonic()
        finally:
            self._under_way.discard(write_id)

    async def _states(self, part: Part, versions: Sequence[int]) -> list[tuple[str, bytes]]:
        """The values of the entities of a part, at ``versions`` or later."""
        known, keys = part.known, part.facts.keys
        names = [self._online.name(known, key) for key in keys]
        bases = await self._online.bases(names, versions)
        lost = [place for place, version in enumerate(versions) if version > 1 and bases[place] is None]
        rebuilt = await self._online.rebuilt(known, [keys[place] for place in lost]) if lost else []
        before = unpacked(known.layout, [base if base is not None else known.empty for base in bases])
        after = trimmed(with_facts(before, part.facts), self._online.slack_us)
        values = packed(after, versions)
        for place, value in zip(lost, rebuilt, strict=True):
            values[place] = value
        return list(zip(names, values, strict=True))

    def _settled(self) -> list[int]:
        """Writes that need no note any more."""
        before = time.monotonic() - SETTLED_S
        return [write_id for write_id, at in self._applied.items() if at < before]

    async def sweep(self) -> None:
        """Finish writes that were cut short between the stores; runs until cancelled."""
        query = "select write_id from unapplied where written_at <= now() - make_interval(secs => $1)"
        stale_s = 0.0
        while True:
            rows = await self._postgres.fetch(query, stale_s)
            await self._finish([row for row in rows if row["write_id"] not in self._under_way])
            stale_s = STALE_S
            await asyncio.sleep(SWEEP_S)

    async def _finish(self, rows: Sequence[Any]) -> None:
        """Bring the entities of these writes up to date in the online store, if they are not."""
        for write_id in [row["write_id"] for row in rows if row["write_id"] not in self._applied]:
            written = await self._postgres.fetch(_WRITTEN, write_id << _ROWS_BITS, (write_id + 1) << _ROWS_BITS)
            by_view: dict[int, list[str]] = {}
            for row in written:
                by_view.setdefault(row["view_id"], []).append(row["key"])
            for view_id, keys in by_view.items():
                known = self._catalog.by_id(view_id)
                if known is not None and known.view.online:
                    await self._online.refresh(known, keys)
            self._applied[write_id] = time.monotonic()
        if settled := self._settled():
            await self._postgres.execute("delete from unapplied where write_id = any($1::bigint[])", settled)
            for write_id in settled:
                self._applied.pop(write_id, None)


def _fresh(parts: Sequence[Part], fresh: NDArray[np.bool_], write_id: int) -> list[Part]:
    """The parts without the rows that are repeats, each row numbered, keys that occur only."""
    found, start = [], 0
    for part in parts:
        count = len(part.facts)
        seq = (write_id << _ROWS_BITS) + np.arange(start, start + count)
        keep = fresh[start : start + count]
        facts = replace(part.facts, seq=seq)
        facts = facts if keep.all() else facts.take(keep).compacted()
        if len(facts):
            found.append(Part(part.known, facts))
        start += count
    return found


def _joined(parts: Sequence[Part]) -> list[Part]:
    """One part a view."""
    by_view: dict[int, Part] = {}
    for part in parts:
        held = by_view.get(part.known.id)
        by_view[part.known.id] = part if held is None else Part(part.known, held.facts.joined(part.facts))
    return list(by_view.values())


def _columns(parts: Sequence[Part]) -> tuple[list[Any], ...]:
    """The rows of all parts as columns of the table."""
    views: list[int] = []
    keys: list[str] = []
    events: list[int] = []
    seqs: list[int] = []
    data: list[bytes] = []
    texts: list[str | None] = []
    for part in parts:
        facts = part.facts
        views += [part.known.id] * len(facts)
        keys += [facts.keys[place] for place in facts.entity.tolist()]
        events += facts.event.tolist()
        seqs += facts.seq.tolist()
        data += stored_facts.bodies(facts)
        texts += stored_facts.texts(facts)
    return views, keys, events, seqs, data, texts
