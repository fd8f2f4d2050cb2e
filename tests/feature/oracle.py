"""The brute force: what a feature is worth, written to be read, slow, and sharing no code with the platform."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MINUTE, HOUR = 60_000_000, 3_600_000_000


@dataclass(frozen=True)
class Fact:
    key: str
    event: int
    known: int
    seq: int
    values: dict[str, Any]


def worth(how: str, facts: Sequence[Fact], key: str | None, t: int, *, column: str = "", divisor: str = "", window: int = 0,
          known_by: int | None = None) -> float | str | None:  # fmt: skip
    """The value for ``key`` at ``t``; None without one. ``window`` of LAST is the greatest age, 0 for any."""
    if key is None:
        return None
    mine = [f for f in facts if f.key == key and f.known <= t and (known_by is None or f.known <= known_by)]
    if how == "last":
        before = [f for f in mine if f.event < t and (not window or f.event >= t - window)]
        return max(before, key=lambda f: (f.event, f.known, f.seq)).values[column] if before else None
    near = t // MINUTE * MINUTE
    edge = MINUTE if window <= 2 * HOUR else HOUR
    far = (near - window) // edge * edge
    rows = [f.values for f in mine if far <= f.event < near]
    if how == "count":
        return float(sum(1 for r in rows if not column or r[column] is not None))
    return _of_values(how, rows, column, divisor)


def _of_values(how: str, rows: list[dict[str, Any]], column: str, divisor: str) -> float | None:
    if how == "ratio":
        both = [(r[column], r[divisor]) for r in rows if r[column] is not None and r[divisor] is not None]
        below = math.fsum(b for _, b in both)
        value = math.fsum(a for a, _ in both) / below if below else None
        return value if value is not None and math.isfinite(value) else None
    values = [r[column] for r in rows if r[column] is not None]
    if not values:
        return None
    if how == "mean":
        return math.fsum(values) / len(values)
    found: float = {"sum": math.fsum(values), "min": min(values), "max": max(values)}[how]
    return found
