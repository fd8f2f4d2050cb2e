"""What does a truth say about the variants that answered? Contributions to performance blocks and to paired blocks.

Everything is exact: sums are integers, so a correction takes out what the first value put in, to the last bit.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from perennial.stats.classification import ClassificationSums
from perennial.stats.losses import PairedSums, RegressionSums, absolute_errors, log_losses

from services.monitor.domain.deployments import SHADOW, Deployment
from services.monitor.domain.time import HOUR_US, block_of, floored
from services.monitor.domain.units import Floats

Sums = RegressionSums | ClassificationSums
BlockKey = tuple[str, str, int, int]
"""Version, variant, start and end."""
PairKey = tuple[str, int]
"""Rollout and hour."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth in force of a prediction; ``known_us`` is when its first value became known."""

    revision: int
    known_us: int
    number: float
    label: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a variant answered, or a challenger in shadow would have."""

    version: str
    variant: str
    scores: tuple[float, ...]
    rollout: str = ""
    deployment: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer of the champion or a challenger with its truth: counted once (+1), or taken out again (-1)."""

    truth: Truth
    answer: Answer
    sign: int = 1
    against: tuple[float, ...] | None = None
    """For a shadow answer: what was answered for real."""


@dataclass(slots=True)
class Contributions:
    """What judged answers add to the blocks."""

    blocks: dict[BlockKey, Sums] = field(default_factory=dict)
    pairs: dict[PairKey, PairedSums] = field(default_factory=dict)


def contributions(judged: Iterable[Judged], deployment: Deployment) -> Contributions:
    """The sums of these answers by block, and of shadow answers by rollout and hour."""
    blocks: defaultdict[tuple[BlockKey, int], list[Judged]] = defaultdict(list)
    pairs: defaultdict[tuple[PairKey, int], list[Judged]] = defaultdict(list)
    policy = deployment.policy
    for item in judged:
        start, end = block_of(item.truth.known_us, policy.block_us, policy.time_zone)
        blocks[(item.answer.version, item.answer.variant, start, end), item.sign].append(item)
        if item.answer.variant == SHADOW and item.against is not None:
            pairs[(item.answer.rollout, floored(item.truth.known_us, HOUR_US)), item.sign].append(item)
    found = Contributions()
    for (key, sign), items in blocks.items():
        sums = _sums(items, deployment)
        found.blocks[key] = merged(found.blocks.get(key), sums if sign > 0 else negated(sums))
    for (pair, sign), items in pairs.items():
        paired = PairedSums.of(_losses(items, [i.against or () for i in items], deployment), _losses(items, None, deployment))
        before = found.pairs.get(pair, PairedSums())
        found.pairs[pair] = before.merged(paired if sign > 0 else PairedSums(*(-getattr(paired, f.name) for f in fields(paired))))
    return found


def _matrix(rows: list[Any]) -> Floats:
    return np.array(rows, dtype=np.float64)


def _losses(items: list[Judged], scores: list[Any] | None, deployment: Deployment) -> Floats:
    """The loss of each row: the absolute error, or the log-loss."""
    given = _matrix([i.answer.scores for i in items] if scores is None else scores)
    if deployment.classes:
        return log_losses([i.truth.label for i in items], _usable(given), deployment.classes)
    return absolute_errors(np.array([i.truth.number for i in items]), given[:, 0])


def _sums(items: list[Judged], deployment: Deployment) -> Sums:
    given = _matrix([i.answer.scores for i in items])
    if deployment.classes:
        return ClassificationSums.of([i.truth.label for i in items], _usable(given), deployment.classes)
    return RegressionSums.of(np.array([i.truth.number for i in items]), given[:, 0])


def _usable(given: Floats) -> Floats:
    """Probabilities of which none is negative and not all are zero: what a system outside logged may be neither."""
    given = np.clip(given, 0.0, None)
    given[given.sum(axis=1) <= 0] = 1.0
    return given


def negated(sums: Sums) -> Sums:
    """What takes the sums out again."""
    if isinstance(sums, RegressionSums):
        return RegressionSums(*(-getattr(sums, f.name) for f in fields(sums)))
    return ClassificationSums(sums.classes, -sums.log_loss, -sums.confusion, -sums.scores)


def merged(first: Sums | None, second: Sums) -> Sums:
    """Both together; the second alone where they are of different kinds (a deployment whose classes changed)."""
    if isinstance(first, RegressionSums) and isinstance(second, RegressionSums):
        return first.merged(second)
    if isinstance(first, ClassificationSums) and isinstance(second, ClassificationSums) and first.classes == second.classes:
        return first.merged(second)
    return second


def sums_from(values: dict[str, Any] | None) -> Sums | None:
    """Sums of plain values."""
    if not values:
        return None
    return ClassificationSums.from_json(values) if "classes" in values else RegressionSums.from_json(values)


def pair_to(sums: PairedSums) -> dict[str, str]:
    """Plain values of paired sums."""
    return {f.name: str(getattr(sums, f.name)) for f in fields(sums)}


def pair_from(values: dict[str, Any] | None) -> PairedSums:
    """Paired sums of plain values."""
    return PairedSums(**{name: int(value) for name, value in values.items()}) if values else PairedSums()
