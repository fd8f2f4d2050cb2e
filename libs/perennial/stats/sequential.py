"""May a challenger replace the champion? Non-inferiority on sums over blocks, looked at as often as one likes.

The gain is (challenger's loss - champion's) / champion's loss over the same rows; below 0 is better. Rows of a day share that
day's luck, so the variance of the summed difference is a part between days (``day_spread`` of the champion's loss, a day) and
one of the rows. Early limits are those of a normal mixture (Robbins 1970, Annals of Mathematical Statistics 41): they hold at
all looks together, so peeking costs nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perennial.errors import InvalidArgument

DAY_US = 86_400_000_000
VAGUE = 0.64
"""An estimate with a spread beyond this share of the margin would let through more than 1 % of the challengers that are worse by
twice the margin (1.5 margins / 2.33 normal deviations): too few rows to decide by at ``max_shadow_us``."""


@dataclass(frozen=True, slots=True)
class PairedBlock:
    """Losses of both on the same rows of one closed block, and the sum of squared differences by row."""

    start_us: int
    end_us: int
    count: int
    champion_loss: float
    challenger_loss: float
    squared_difference: float


@dataclass(frozen=True, slots=True)
class ShadowPolicy:
    """``margin``: the worsening that is tolerated, a share of the champion's loss; ``max_shadow_us``: when the estimate decides;
    ``long_shadow``: how many times that a doubtful challenger may take; ``day_spread``: standard deviation of a day's gain,
    a share of the loss; ``tail``: chance that an early look is ever wrong, each way.
    """

    margin: float = 0.10
    max_shadow_us: int = DAY_US
    long_shadow: float = 3.0
    least_blocks: int = 6
    day_spread: float = 0.05
    tail: float = 0.01


@dataclass(frozen=True, slots=True)
class Decision:
    """``wait`` for more blocks, ``promote`` (go live) or ``decline``; why, and the figures it rests on."""

    action: Literal["wait", "promote", "decline"]
    reason: str
    figures: dict[str, float]


def decide(blocks: Sequence[PairedBlock], policy: ShadowPolicy | None = None, *, elapsed_us: int) -> Decision:
    """What the paired blocks say after ``elapsed_us`` of shadow; the same blocks in any order give the same decision.

    Early, from ``least_blocks`` blocks with rows: decline when the worsening is beyond the margin and certainly above 0, promote
    when the challenger is certainly better. At ``max_shadow_us`` promote up to half the margin (unless rows are so few that a
    challenger twice the margin worse could look like that in more than 1 %), at ``long_shadow`` times that up
    to the margin, else decline. Without rows it waits: what to do when outcomes never come is the caller's. InvalidArgument when
    a figure is negative or not finite.
    """
    rule = policy or ShadowPolicy()
    held = sorted((b for b in blocks if b.count > 0), key=lambda b: (b.start_us, b.end_us))
    _check(held)
    if not held:
        return Decision("wait", "no outcome is known yet for rows that both answered", {"blocks": 0.0, "rows": 0.0})
    gain, spread = estimate(held, rule.day_spread)
    limit = mixture_limit(spread, rule.tail, typical=rule.margin)
    figures = {
        "blocks": float(len(held)),
        "rows": float(sum(b.count for b in held)),
        "gain": gain,
        "spread": spread,
        "low": gain - limit,
        "high": gain + limit,
        "margin": rule.margin,
    }
    early = _early(len(held), gain, limit, rule)
    return Decision(*(early or _at_the_end(gain, spread, elapsed_us, rule)), figures)


def estimate(blocks: Sequence[PairedBlock], day_spread: float) -> tuple[float, float]:
    """The relative gain over all blocks, and its standard deviation (between days and between rows).

    A champion without any loss can only be equalled: the gain is 0, or 1 for any loss of the challenger.

    >>> estimate([PairedBlock(0, 1, 2, 10.0, 11.0, 0.5)], 0.0)[0]
    0.1
    """
    base = math.fsum(b.champion_loss for b in blocks)
    gap = math.fsum(b.challenger_loss - b.champion_loss for b in blocks)
    if base <= 0:
        return (1.0 if gap > 0 else 0.0), 0.0
    by_day: dict[int, list[float]] = defaultdict(list)
    for block in blocks:
        by_day[(block.start_us - blocks[0].start_us) // DAY_US].append(block.champion_loss)
    between = day_spread**2 * math.fsum(math.fsum(day) ** 2 for day in by_day.values())
    rows = sum(b.count for b in blocks)
    squares = math.fsum(b.squared_difference for b in blocks)
    within = max(0.0, squares - gap * gap / rows) * rows / max(rows - 1, 1)
    if within == 0.0 and gap == 0.0:
        return 0.0, 0.0  # the two answer alike: nothing is left to chance
    return gap / base, math.sqrt(between + within) / base


def mixture_limit(spread: float, tail: float, *, typical: float) -> float:
    """Half width that the estimate's error exceeds at any look with probability at most ``tail`` a side.

    sqrt((V + r) ln((V + r) / (4 tail^2 r))) for a sum of variance V; here the sum is mean / spread^2 and V = 1 / spread^2, and
    r = 1 / (2 typical)^2 makes it narrowest for gains of about twice ``typical``.
    """
    if spread <= 0:
        return 0.0
    information = 1 / spread**2
    prior = 1 / (2 * typical) ** 2 if typical > 0 else information
    heap = information + prior
    return math.sqrt(heap * math.log(max(heap / (4 * tail**2 * prior), 1.0))) / information


def _early(blocks: int, gain: float, limit: float, rule: ShadowPolicy) -> tuple[Literal["promote", "decline"], str] | None:
    if blocks < rule.least_blocks:
        return None
    if gain - limit > 0 and gain > rule.margin:
        return "decline", f"harm: {gain:+.1%} of the champion's error, at least {gain - limit:+.1%} at any look"
    if gain + limit < 0:
        return "promote", f"clear gain: {gain:+.1%} of the champion's error, at most {gain + limit:+.1%} at any look"
    return None


def _at_the_end(
    gain: float, spread: float, elapsed_us: int, rule: ShadowPolicy
) -> tuple[Literal["wait", "promote", "decline"], str]:
    said = f"{gain:+.1%} of the champion's error"
    if elapsed_us < rule.max_shadow_us:
        return "wait", f"{said}, not certain yet"
    vague = spread > VAGUE * rule.margin
    if gain <= rule.margin / 2 and not vague:
        return "promote", f"{said}: within half the margin of {rule.margin:.0%}"
    if elapsed_us < rule.long_shadow * rule.max_shadow_us:
        why = f"known to {spread:.1%} only" if vague else f"more than half the margin of {rule.margin:.0%}"
        return "wait", f"{said}: {why}, so shadow goes on"
    if gain <= rule.margin:
        return "promote", f"{said} after the longer shadow: within the margin of {rule.margin:.0%}"
    return "decline", f"{said} after the longer shadow: beyond the margin of {rule.margin:.0%}"


def _check(blocks: Sequence[PairedBlock]) -> None:
    for block in blocks:
        figures = (block.champion_loss, block.challenger_loss, block.squared_difference)
        if not all(math.isfinite(f) and f >= 0 for f in figures):
            raise InvalidArgument(f"block at {block.start_us}: losses are finite and not negative, not {figures}")


def day_spread_of(blocks: Sequence[PairedBlock]) -> float:
    """Standard deviation between days of the relative gain, what rows alone explain taken off; NaN below three days. Use it on
    the paired blocks of past rollouts in place of the default.
    """
    by_day: dict[int, list[PairedBlock]] = defaultdict(list)
    for block in blocks:
        if block.count > 0 and block.champion_loss > 0:
            by_day[block.start_us // DAY_US].append(block)
    if len(by_day) < 3:
        return float("nan")
    found = [estimate(day, 0.0) for day in by_day.values()]
    spread = float(np.var([gain for gain, _ in found], ddof=1)) - float(np.mean([own**2 for _, own in found]))
    return math.sqrt(max(0.0, spread))
