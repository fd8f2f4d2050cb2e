"""Which rows of a stream are new, which are repeats and which are missing?

A reader keeps the next position of a stream and its open gaps. A row is taken when it is the next or later, or when it
lies in an open gap; everything else is a repeat. So the effect of a row happens once, whatever is sent again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

MISSING = "missing"
DEAD = "dead-lettered"

Range = tuple[int, int]
"""First and last position, both included."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Positions that a reader has not seen."""

    first: int
    last: int
    reason: str

    @property
    def rows(self) -> int:
        """How many."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has come in a stream. Gaps are disjoint, ascending and all below ``next_n``."""

    next_n: int = 1
    gaps: tuple[Gap, ...] = ()

    def taken(self, first: int, rows: int) -> tuple["Position", tuple[Range, ...]]:
        """The position after rows ``first …`` and which ranges of them are new. A jump opens a gap of reason missing.

        >>> Position(next_n=5).taken(3, 4)
        (Position(next_n=7, gaps=()), ((5, 6),))
        """
        last = first + rows - 1
        filled, new = self._filled(first, last)
        if last < self.next_n:
            return filled, new
        gaps = filled.gaps
        if first > self.next_n:
            gaps = (*gaps, Gap(self.next_n, first - 1, MISSING))
        fresh = (max(first, self.next_n), last)
        return Position(last + 1, gaps), (*new, fresh)

    def dropped(self, first: int, last: int) -> tuple["Position", int]:
        """The position after the producer's word that ``first … last`` will never come, and how many that is news of."""
        after, new = self.taken(first, last - first + 1)
        return after, sum(b - a + 1 for a, b in new)

    def dead(self, first: int, rows: int) -> "Position":
        """The position after a batch that went to the dead letter: its new rows become a gap that a replay fills."""
        after, new = self.taken(first, rows)
        gaps = sorted((*after.gaps, *(Gap(a, b, DEAD) for a, b in new)), key=lambda gap: gap.first)
        return replace(after, gaps=tuple(gaps))

    def ended(self, last: int) -> "Position":
        """The position after the producer's word that ``last`` was the last row: what was not seen is missing."""
        if last < self.next_n:
            return self
        return Position(last + 1, (*self.gaps, Gap(self.next_n, last, MISSING)))

    def _filled(self, first: int, last: int) -> tuple["Position", tuple[Range, ...]]:
        """The position without the parts of its gaps that ``first … last`` covers, and those parts."""
        if not self.gaps:
            return self, ()
        kept: list[Gap] = []
        new: list[Range] = []
        for gap in self.gaps:
            start, end = max(gap.first, first), min(gap.last, last)
            if start > end:
                kept.append(gap)
                continue
            new.append((start, end))
            if gap.first < start:
                kept.append(replace(gap, last=start - 1))
            if end < gap.last:
                kept.append(replace(gap, first=end + 1))
        return replace(self, gaps=tuple(kept)), tuple(new)


def count(ranges: Iterable[Range]) -> int:
    """How many positions the ranges hold."""
    return sum(last - first + 1 for first, last in ranges)
