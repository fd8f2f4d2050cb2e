"""What does a unit do to its stream? One reader's state of a stream, and the effects that its new rows have."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from services.monitor.domain.positions import Position, Range, count
from services.monitor.domain.units import (
    PREDICTIONS,
    Dead,
    Dropped,
    Ended,
    Outcome,
    Outcomes,
    Predictions,
    Progress,
    Shadows,
    Source,
    Unit,
)

Key = tuple[str, str]
"""Kind and stream."""
Line = tuple[str, str, str]
"""Deployment, version and variant: a line of the ledger."""


@dataclass(frozen=True, slots=True)
class Stream:
    """How far a reader is in one stream."""

    source: Source
    position: Position = field(default_factory=Position)
    watermark_us: int | None = None
    announced: bool = False
    """Seen on its topic; a stream that only an outcome named is not."""
    ended: bool = False
    partition: int = -1

    @property
    def key(self) -> Key:
        """What names it."""
        return self.source.kind, self.source.stream

    @property
    def line(self) -> Line:
        """Its line of the ledger."""
        return self.source.deployment, self.source.version, self.source.variant


@dataclass(frozen=True, slots=True)
class Taken:
    """The new rows of a batch."""

    batch: Predictions
    ranges: tuple[Range, ...]
    partition: int


@dataclass(slots=True)
class Effects:
    """What some units do together; filled by :func:`apply`."""

    streams: dict[Key, Stream]
    taken: list[Taken] = field(default_factory=list)
    shadows: list[Shadows] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    ledger: defaultdict[Line, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    touched: set[str] = field(default_factory=set)
    """Deployments whose watermark may have moved."""


def key_of(unit: Unit) -> Key:
    """The stream a unit is of."""
    return unit.source.kind, unit.source.stream


def keys_touched(units: Iterable[Unit]) -> dict[Key, Source]:
    """Every stream that must be locked: the units' own, and those of the predictions that outcomes name."""
    found: dict[Key, Source] = {}
    for unit in units:
        if isinstance(unit, Outcomes):
            for row in unit.rows:
                if row.stream:
                    found.setdefault((PREDICTIONS, row.stream), Source(PREDICTIONS, row.stream, row.deployment))
        if isinstance(unit, Predictions) and unit.at is not None:
            found.setdefault((PREDICTIONS, unit.at[0]), Source(PREDICTIONS, unit.at[0], unit.source.deployment))
    for unit in units:
        found[key_of(unit)] = unit.source
    return found


def apply(streams: dict[Key, Stream], units: Iterable[tuple[int, Unit]]) -> Effects:
    """The effects of units (with the partition each came on), in order, on streams as they were."""
    effects = Effects(dict(streams))
    for partition, unit in units:
        stream = effects.streams[key_of(unit)]
        stream = replace(stream, source=_known(stream.source, unit.source), announced=True, partition=partition)
        effects.streams[stream.key] = _advanced(stream, unit, effects)
        effects.touched.add(unit.source.deployment)
    return effects


def _known(old: Source, new: Source) -> Source:
    """What both say together; a stream belongs to one variant for its life."""
    return replace(
        new, version=new.version or old.version, variant=new.variant or old.variant, deployment=new.deployment or old.deployment
    )


def _advanced(stream: Stream, unit: Unit, effects: Effects) -> Stream:  # noqa: C901 a branch a kind of unit
    """The stream after a unit, whose effects are noted."""
    line = effects.ledger[stream.line] if stream.source.kind == PREDICTIONS else Counter[str]()
    if isinstance(unit, Shadows):
        effects.shadows.append(unit)
        return stream
    if isinstance(unit, Progress):
        told = [us for us in (unit.watermark_us, stream.watermark_us) if us is not None]
        return replace(stream, watermark_us=max(told, default=None), position=stream.position.ended(unit.next_n - 1))
    if isinstance(unit, Ended):
        return replace(stream, ended=True, position=stream.position.ended(unit.last_n))
    if isinstance(unit, Dropped):
        position, rows = stream.position.dropped(unit.first_n, unit.last_n)
        line["dropped"] += rows
        return replace(stream, position=position)
    if isinstance(unit, Dead):
        return replace(stream, position=stream.position.dead(unit.first_n, unit.rows))
    first, rows = unit.first_n, len(unit.rows) if isinstance(unit, Outcomes) else unit.rows
    position, ranges = stream.position.taken(first, rows) if first else (stream.position, ((0, rows - 1),))
    line["repeats"] += rows - count(ranges)
    if ranges and isinstance(unit, Predictions):
        effects.taken.append(Taken(unit, ranges, stream.partition))
    if isinstance(unit, Outcomes):
        for start, end in ranges:
            for row in range(start - first, end - first + 1):
                if row not in unit.refused:
                    effects.outcomes.append(unit.rows[row])
    return replace(stream, position=position)


def chosen(taken: Taken) -> np.ndarray:
    """Indexes of the new rows inside the batch."""
    first = taken.batch.first_n
    return np.concatenate([np.arange(start - first, end - first + 1) for start, end in taken.ranges])
