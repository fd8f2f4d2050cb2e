"""What time is it, and how is a time written as a number?

Rows carry int64 microseconds since the Unix epoch; control code uses aware UTC datetimes. Both ways are exact.
"""

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(t: datetime) -> int:
    """Microseconds since the epoch; ``t`` must be aware (``ValueError`` otherwise: a naive time has no meaning here)."""
    if t.tzinfo is None:
        raise ValueError(f"{t!r} has no time zone")
    return (t - EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The aware UTC datetime of ``us`` microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=int(us))


class Clock(Protocol):
    """Where a service takes its time from."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...


class SystemClock:
    """Wall time."""

    def now(self) -> datetime:
        """The present by the machine's clock."""
        return datetime.now(UTC)


class ManualClock:
    """Time that moves only when told: for tests and replays."""

    def __init__(self, now: datetime) -> None:
        if now.tzinfo is None:
            raise ValueError(f"{now!r} has no time zone")
        self._now = now.astimezone(UTC)

    def now(self) -> datetime:
        """The time last set."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move on by ``by``."""
        self._now += by

    def set(self, to: datetime) -> None:
        """Jump to ``to``."""
        self._now = to.astimezone(UTC)
