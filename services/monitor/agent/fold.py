"""What does one commit of the agent do? Folds and joins units, and writes everything in one transaction.

State, positions, outputs, outcomes and blocks are one fact: after a kill either all of it is there or none, and what is
read again is recognised by its positions.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from perennial.frames import Table
from perennial.runtime import crash
from perennial.runtime.postgres import Postgres, Transaction
from perennial.stats.fold import Fold

from services.monitor.agent.references import References
from services.monitor.domain import streams as domain
from services.monitor.domain.deployments import Deployment
from services.monitor.domain.joining import Answer, Judged, Truth, contributions
from services.monitor.domain.streams import Effects, Taken
from services.monitor.domain.time import floored
from services.monitor.domain.units import Outcome, Predictions, Unit
from services.monitor.store import answers, blocks, ledger, panes, streams
from services.monitor.store.answers import Place
from services.monitor.store.panes import Pane, Variant

CACHED_PANES = 4096


@dataclass(frozen=True, slots=True)
class Arrival:
    """One unit, and where it came from."""

    topic: str
    partition: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit leaves to others."""

    deployments: frozenset[str]
    counted: Mapping[str, int] = field(default_factory=dict)


class Fenced(Exception):
    """Another worker took a partition: the cache says nothing any more."""


class Folding:
    """The fold of this worker: a cache of pane states, fenced by the epochs of the partitions it holds."""

    def __init__(self, postgres: Postgres, references: References) -> None:
        self._postgres = postgres
        self._references = references
        self._epochs: dict[tuple[str, int], int] = {}
        self._panes: OrderedDict[Pane, tuple[int, Fold | None]] = OrderedDict()

    def forget(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Drop what is cached of partitions that were taken away."""
        gone = set(partitions)
        for key in gone:
            self._epochs.pop(key, None)
        for pane in [pane for pane in self._panes if any(pane[4] == partition for _, partition in gone)]:
            del self._panes[pane]

    async def commit(self, arrivals: Sequence[Arrival], known: Mapping[str, Deployment]) -> Committed:
        """Have the effects of these units, once, whatever was committed of them before."""
        while True:
            try:
                return await self._commit(arrivals, known)
            except Fenced:
                self.forget({(a.topic, a.partition) for a in arrivals})
            except BaseException:
                self.forget({(a.topic, a.partition) for a in arrivals})  # the cache may be ahead of what was rolled back
                raise

    async def _commit(self, arrivals: Sequence[Arrival], known: Mapping[str, Deployment]) -> Committed:
        await self._references.load({(a.unit.source.deployment, a.unit.source.version) for a in arrivals
                                     if isinstance(a.unit, Predictions)}, known)  # fmt: skip
        async with self._postgres.transaction() as tx:
            await self._fence(tx, arrivals)
            before = await streams.locked(tx, streams.FOLD, domain.keys_touched([a.unit for a in arrivals]))
            effects = domain.apply(before, ((a.partition, a.unit) for a in arrivals))
            crash.point("monitor.before_effects")
            await self._effects(tx, effects, known)
            await streams.save(tx, streams.FOLD, before, effects.streams)
            await ledger.add(tx, effects.ledger)
        crash.point("monitor.after_commit")
        counted = Counter[str]()
        for (deployment, _, _), line in effects.ledger.items():
            counted[deployment] += line["counted"]
        return Committed(frozenset(effects.touched), counted)

    async def _fence(self, tx: Transaction, arrivals: Sequence[Arrival]) -> None:
        """Lock the partitions' epochs; take those that this worker does not hold yet."""
        now = await streams.epochs(tx, {(a.topic, a.partition) for a in arrivals})
        taken = {}
        for key, epoch in now.items():
            held = self._epochs.get(key)
            if held is None:
                taken[key] = await streams.take(tx, *key)
            elif held != epoch:
                raise Fenced
        self._epochs |= taken

    async def _effects(self, tx: Transaction, effects: Effects, known: Mapping[str, Deployment]) -> None:
        await _without_repeats(tx, effects)
        outcomes = list(effects.outcomes)
        if effects.taken:
            await answers.keep(tx, effects.taken)
            await self._fold(tx, effects, known)
            outcomes += await answers.called(tx, effects.taken)
        await self._join(tx, effects, outcomes, known)

    async def _fold(self, tx: Transaction, effects: Effects, known: Mapping[str, Deployment]) -> None:
        """Count new rows into the panes of their variant's open window; those before it are late."""
        groups: defaultdict[tuple[Variant, int], list[Taken]] = defaultdict(list)
        first: dict[Variant, int] = {}
        for item in effects.taken:
            source = item.batch.source
            variant = (source.deployment, source.version, source.variant)
            groups[variant, item.partition].append(item)
            start = floored(int(item.batch.event_us.min()), known[source.deployment].policy.pane_us)
            first[variant] = min(start, first.get(variant, start))
        starts = await panes.window_starts(tx, first)
        late: Counter[Variant] = Counter()
        changed: dict[Pane, tuple[int, Fold | None]] = {}
        for (variant, partition), items in sorted(groups.items(), key=lambda pair: pair[0]):
            rows, counted = _rows(items, starts[variant], known[variant[0]])
            late[variant] += rows - counted.rows
            changed |= await self._folded(tx, variant, partition, counted)
            effects.ledger[variant]["counted"] += counted.rows
        for variant, count in late.items():
            effects.ledger[variant]["late"] += count
        await panes.add_late(tx, {variant: count for variant, count in late.items() if count})
        await panes.save(tx, {key: (rows, fold.to_bytes() if fold else b"") for key, (rows, fold) in changed.items()})
        self._remember(changed)

    async def _folded(
        self, tx: Transaction, variant: Variant, partition: int, new: "_Rows"
    ) -> dict[Pane, tuple[int, Fold | None]]:
        if not new.rows:
            return {}
        folder = self._references.folder(variant[0], variant[1])
        found, counts = np.unique(new.panes, return_counts=True)
        folds: Mapping[int, Fold | None] = (
            folder.fold_panes(new.panes, new.inputs, new.outputs) if folder else dict.fromkeys(found.tolist())
        )
        keys = [(*variant, pane, partition) for pane in found.tolist()]
        stored = await panes.states(tx, [key for key in keys if key not in self._panes])
        result: dict[Pane, tuple[int, Fold | None]] = {}
        for key, count in zip(keys, counts.tolist(), strict=True):
            rows, before = self._panes.get(key) or _loaded(stored.get(key))
            fold = folds[key[3]]
            if before is not None and fold is not None and before.profile == fold.profile:
                fold = before.merged(fold)
            result[key] = (rows + count, fold if fold is not None else before)
        return result

    def _remember(self, changed: dict[Pane, tuple[int, Fold | None]]) -> None:
        for key, value in changed.items():
            self._panes[key] = value
            self._panes.move_to_end(key)
        while len(self._panes) > CACHED_PANES:
            self._panes.popitem(last=False)

    async def _join(self, tx: Transaction, effects: Effects, outcomes: list[Outcome], known: Mapping[str, Deployment]) -> None:
        """Match outcomes and shadow answers with what was answered; what they say goes into the blocks."""
        shadows = await answers.keep_shadows(tx, effects.shadows)
        places = sorted({(o.stream, o.n) for o in outcomes if o.stream} | {place for place, _, _ in shadows})
        if not outcomes and not shadows:
            return
        answered = await answers.answers(tx, places)
        truths = await answers.truths(tx, places)
        others = await answers.shadows(tx, places)
        joined: defaultdict[str, _Joined] = defaultdict(_Joined)
        await self._shadows(tx, effects, shadows)
        for place, answer, failed in shadows:  # truths known before their shadow answer came
            if not failed and place in truths and place in answered:
                given = answered[place]
                joined[given.deployment].judged.append(Judged(truths[place], answer, against=given.scores))
        waiting = []
        for outcome in outcomes:
            real = answered.get((outcome.stream, outcome.n))
            if real is None or real.deployment != outcome.deployment:
                waiting.append(outcome)
                continue
            first = (outcome.stream, outcome.n) not in truths
            self._truth(outcome, real, truths, others.get((outcome.stream, outcome.n), []), joined[outcome.deployment])
            effects.ledger[outcome.deployment, real.version, real.variant]["outcomes"] += first
        await answers.wait(tx, waiting)
        for deployment, found in sorted(joined.items()):
            if found.truths:
                await answers.set_truths(tx, deployment, found.truths)
            if found.judged:
                await blocks.add(tx, deployment, contributions(found.judged, known[deployment]))

    @staticmethod
    def _truth(outcome: Outcome, answer: Answer, truths: dict[Place, Truth], others: list[Answer], joined: "_Joined") -> None:
        """Put one outcome in force, taking out what an earlier value put in; an older revision changes nothing."""
        place = (outcome.stream, outcome.n)
        old = truths.get(place)
        if old is not None and old.revision >= outcome.revision:
            return
        new = Truth(outcome.revision, old.known_us if old else outcome.known_us, outcome.number, outcome.label)
        for one, against in ((answer, None), *((other, answer.scores) for other in others)):
            if old is not None:
                joined.judged.append(Judged(old, one, -1, against))
            joined.judged.append(Judged(new, one, 1, against))
        truths[place] = joined.truths[place] = new

    @staticmethod
    async def _shadows(tx: Transaction, effects: Effects, shadows: list[tuple[Place, Answer, bool]]) -> None:
        """Count new shadow answers: a line of the ledger of their own, and by rollout."""
        counts: defaultdict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        for place, answer, failed in shadows:
            deployment = effects.streams["predictions", place[0]].source.deployment
            effects.ledger[deployment, answer.version, "shadow"]["shadow"] += 1
            rows, failures = counts[deployment].get(answer.rollout, (0, 0))
            counts[deployment][answer.rollout] = (rows + 1, failures + int(failed))
        for deployment, found in sorted(counts.items()):
            await blocks.add_shadow_counts(tx, deployment, found)


@dataclass(slots=True)
class _Joined:
    judged: list[Judged] = field(default_factory=list)
    truths: dict[Place, Truth] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one variant and partition that are counted."""

    rows: int
    panes: np.ndarray
    inputs: Table
    outputs: Table


def _rows(items: list[Taken], start_us: int, deployment: Deployment) -> tuple[int, _Rows]:
    """How many rows are new, and those of them that are not late."""
    whole = 0
    inputs, outputs, times = [], [], []
    for item in items:
        places = domain.chosen(item)
        whole += len(places)
        places = places[item.batch.event_us[places] >= start_us]
        if len(places):
            everything = len(places) == item.batch.rows
            inputs.append(item.batch.inputs if everything else item.batch.inputs.take(places))
            outputs.append(item.batch.outputs if everything else item.batch.outputs.take(places))
            times.append(item.batch.event_us[places])
    if not times:
        return whole, _Rows(0, np.empty(0, np.int64), Table(0), Table(0))
    stamps = np.concatenate(times)
    return whole, _Rows(len(stamps), stamps - stamps % deployment.policy.pane_us, Table.concat(inputs), Table.concat(outputs))


def _loaded(stored: tuple[int, bytes] | None) -> tuple[int, Fold | None]:
    if stored is None:
        return 0, None
    return stored[0], Fold.from_bytes(stored[1]) if stored[1] else None


async def _without_repeats(tx: Transaction, effects: Effects) -> None:
    """Leave out rows of systems outside whose id was folded before, or comes twice here."""
    seen = await answers.repeated(tx, effects.taken)
    kept = []
    for item in effects.taken:
        place = item.batch.at
        if place is None or place not in seen:
            kept.append(item)
        else:
            source = item.batch.source
            effects.ledger[source.deployment, source.version, source.variant]["repeats"] += 1
        if place is not None:
            seen.add(place)
    effects.taken = kept
