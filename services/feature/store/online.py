"""What does the online store hold, and how is it kept equal to PostgreSQL?

One packed value an entity under ``f:<view>:<layout>:<key>``. A value is the whole state with the entity's version; it
is written after the PostgreSQL commit and only over an older version, so repeats and races are harmless. What is not
there is built from PostgreSQL; an entity without facts gets an empty value for a while.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from perennial.errors import PerennialError

from services.feature.domain.evaluate import needed_by
from services.feature.domain.facts import Facts
from services.feature.domain.packing import packed, version_of
from services.feature.domain.states import ALWAYS, States, states_of, trimmed
from services.feature.store.catalog import KnownView
from services.feature.store.history import History
from services.feature.store.valkey import Valkey

EMPTY_S = 600
WATCH_S = 1.0
BATCH = 500
_SET = f"""
local function version(value)
  local found = 0
  for i = 1, 8 do found = found * 256 + string.byte(value, i) end
  return found
end
for i = 1, #KEYS do
  local held = redis.call('GETRANGE', KEYS[i], 0, 7)
  local new = version(ARGV[i])
  if #held < 8 or version(held) < new then
    if new == 0 then
      redis.call('SET', KEYS[i], ARGV[i], 'EX', {EMPTY_S})
    else
      redis.call('SET', KEYS[i], ARGV[i])
    end
  end
end
return #KEYS
"""


class Online:
    """Packed states by entity."""

    def __init__(self, valkey: Valkey, history: History, prefix: str, *, slack_us: int, cache_bytes: int) -> None:
        self._valkey, self._history, self._prefix, self.slack_us = valkey, history, prefix, slack_us
        self._cache = _Cache(cache_bytes)

    def name(self, known: KnownView, key: str) -> str:
        """Where an entity's value lies."""
        return f"{self._prefix}{known.id}:{known.layout.digest}:{key}"

    async def values(self, wanted: Sequence[tuple[KnownView, str]]) -> list[bytes]:
        """The value of each entity, in one round trip when all are there."""
        names = [self.name(known, key) for known, key in wanted]
        found = await self.get(names)
        missing: dict[int, list[int]] = {}
        for place, value in enumerate(found):
            if value is None:
                missing.setdefault(wanted[place][0].id, []).append(place)
        for places in missing.values():
            known = wanted[places[0]][0]
            keys = list(dict.fromkeys(wanted[place][1] for place in places))
            built = dict(zip(keys, await self.rebuilt(known, keys), strict=True))
            await self.put((self.name(known, key), value) for key, value in built.items())
            for place in places:
                found[place] = built[wanted[place][1]]
        return found  # type: ignore[return-value]

    async def get(self, names: Sequence[str]) -> list[bytes | None]:
        """What is there. Unavailable when the store does not answer."""
        return await self._valkey.call("MGET", *names) if names else []

    async def put(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Write values over older versions; returns when the store holds them, or newer ones."""
        pairs = list(values)
        if not pairs:
            return
        await self._valkey.run(_SET, [name for name, _ in pairs], [value for _, value in pairs])
        for name, value in pairs:
            self._cache.add(name, value)

    async def bases(self, names: Sequence[str], versions: Sequence[int]) -> list[bytes | None]:
        """For entities now at ``versions`` their values one version earlier, or None where that is not to be had."""
        found = [self._cache.get(name) for name in names]
        absent = [
            place
            for place, version in enumerate(versions)
            if version > 1 and ((held := found[place]) is None or version_of(held) != version - 1)
        ]
        fetched = await self.get([names[place] for place in absent])
        for place, value in zip(absent, fetched, strict=True):
            found[place] = value
        return [
            value if value is not None and version_of(value) == version - 1 else None
            for value, version in zip(found, versions, strict=True)
        ]

    async def reachable(self) -> str | None:
        """A readiness condition: None, or what is wrong."""
        try:
            await self._valkey.call("PING")
        except PerennialError as error:
            return error.message
        return None

    async def refresh(self, known: KnownView, keys: Sequence[str]) -> None:
        """Bring the values of these entities up to date."""
        values = await self.rebuilt(known, keys)
        await self.put((self.name(known, key), value) for key, value in zip(keys, values, strict=True))

    async def watch(self) -> None:
        """Write again what was written last when the store was started anew: it may have lost its last second."""
        life: bytes | None = None
        while True:
            try:
                found: bytes | None = await self._life()
            except PerennialError:
                found = life
            if life is not None and found != life:
                for values in self._cache.recent(BATCH):
                    await self.put(values)
            life = found
            await asyncio.sleep(WATCH_S)

    async def _life(self) -> bytes:
        info: bytes = await self._valkey.call("INFO", "server")
        return next((line for line in info.splitlines() if line.startswith(b"run_id")), b"")

    async def rebuilt(self, known: KnownView, keys: Sequence[str]) -> list[bytes]:
        """The values of these entities, from their history."""
        reach = needed_by(known.layout)
        since = None
        if reach and (newest := await self._history.newest(known, keys)) is not None:
            since = newest - self.slack_us - reach
        found = await self._history.read(known, keys, since_us=since)
        return packed(trimmed(_built(known, found.facts, found.rows, self.slack_us), self.slack_us), found.versions)


def _built(known: KnownView, facts: Facts, rows: Sequence[int], slack_us: int) -> States:
    """The states of entities that have ``rows`` facts in all, the newest of which are ``facts``."""
    states = states_of(known.layout, facts)
    lacking = np.bincount(facts.entity, minlength=len(facts.keys)) < np.asarray(rows)
    states.complete_from[lacking & (states.newest > ALWAYS)] = states.newest[lacking & (states.newest > ALWAYS)] - slack_us
    return states


class _Cache:
    """The values last written, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._values: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        return self._values.get(name)

    def recent(self, size: int) -> Iterator[list[tuple[str, bytes]]]:
        """All values in parts of ``size``."""
        values = list(self._values.items())
        return (values[start : start + size] for start in range(0, len(values), size))

    def add(self, name: str, value: bytes) -> None:
        held = self._values.pop(name, None)
        if held is not None and version_of(held) > version_of(value):
            value = held
        self._size += len(value) - (len(held) if held is not None else 0)
        self._values[name] = value
        while self._size > self._limit and self._values:
            self._size -= len(self._values.popitem(last=False)[1])
