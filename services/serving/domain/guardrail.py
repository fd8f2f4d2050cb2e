"""When is a challenger taken out at once, whatever outcomes say?

Wall time, inside one process: the share of failing calls within a second, and the median of its latency against the
champion's.
"""

from __future__ import annotations

from collections import deque
from statistics import median

WINDOW_S = 1.0
_SAMPLES = 64
_ENOUGH = 20
_ENOUGH_COPIES = 5
LEAST_DIFFERENCE_S = 0.00005
"""Below it a ratio of latencies is noise."""


class Guardrail:
    """Watches one challenger in one process."""

    def __init__(self, max_error_rate: float, max_latency_ratio: float) -> None:
        self._rate, self._ratio = max_error_rate, max_latency_ratio
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._copies = self._copies_failed = 0
        self._champion: deque[float] = deque(maxlen=_SAMPLES)
        self._challenger: deque[float] = deque(maxlen=_SAMPLES)

    def failed(self, now_s: float, why: str) -> str | None:
        """A call of the challenger failed; the reason to take it out, if it is one."""
        self._add(now_s, failed=True)
        calls = len(self._calls)
        if self._failed > self._rate * calls:
            return f"{self._failed} of {calls} calls within a second failed: {why}"
        return None

    def answered(self, now_s: float, seconds_a_row: float) -> str | None:
        """The challenger answered; the reason to take it out, if its latency is one."""
        self._add(now_s, failed=False)
        self._challenger.append(seconds_a_row)
        if len(self._challenger) < _ENOUGH or len(self._champion) < _ENOUGH:
            return None
        ours, theirs = median(self._challenger), median(self._champion)
        if ours > self._ratio * theirs and ours - theirs > LEAST_DIFFERENCE_S:
            return f"median latency {ours * 1e3:.3g} ms against the champion's {theirs * 1e3:.3g} ms"
        return None

    def copied(self, rows: int, failures: int, why: str) -> str | None:
        """Copies in shadow were answered, some of them wrongly; counted from the beginning, so that replays agree."""
        self._copies += rows
        self._copies_failed += failures
        if self._copies_failed >= _ENOUGH_COPIES and self._copies_failed > self._rate * self._copies:
            return f"{self._copies_failed} of {self._copies} copies failed: {why}"
        return None

    def champion_answered(self, seconds_a_row: float) -> None:
        """What the challenger is held against."""
        self._champion.append(seconds_a_row)

    def _add(self, now_s: float, *, failed: bool) -> None:
        self._calls.append((now_s, failed))
        self._failed += failed
        while self._calls and self._calls[0][0] < now_s - WINDOW_S:
            self._failed -= self._calls.popleft()[1]
