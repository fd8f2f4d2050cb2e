"""Where do panes and blocks begin, and how far is a deployment?

Panes and short blocks are multiples of their length since the epoch; a block of a day or more begins at midnight of the
deployment's time zone, so a block may have 23 or 25 hours.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from perennial.clock import from_us, to_us
from perennial.errors import InvalidArgument

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US


def floored(us: int, length_us: int) -> int:
    """The last multiple of ``length_us`` at or before ``us``."""
    return us - us % length_us


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The zone of that name; InvalidArgument when there is none."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidArgument(f"{name!r} is no time zone") from error


@lru_cache(maxsize=4096)
def _midnight(day: int, name: str) -> int:
    """The instant at which the local day with this ordinal begins."""
    return to_us(datetime.fromordinal(day).replace(tzinfo=zone(name)))


def block_of(us: int, length_us: int, time_zone: str) -> tuple[int, int]:
    """Start and end of the block that holds the instant ``us``."""
    if length_us % DAY_US:
        start = floored(us, length_us)
        return start, start + length_us
    days = length_us // DAY_US
    local = from_us(us).astimezone(zone(time_zone)).toordinal()
    first = local - local % days
    return _midnight(first, time_zone), _midnight(first + days, time_zone)


def blocks_between(after_us: int, until_us: int, length_us: int, time_zone: str) -> Iterable[tuple[int, int]]:
    """Blocks whose end is later than ``after_us`` and not later than ``until_us``, ascending."""
    start, end = block_of(after_us, length_us, time_zone)
    while end <= until_us:
        if end > after_us:
            yield start, end
        start, end = block_of(end, length_us, time_zone)


def least_watermark(streams: Iterable[int | None], stored: int | None) -> int | None:
    """A deployment's watermark: the least over its open streams, never before ``stored``; with no open stream it stays.

    A stream that has not said anything yet stands where the deployment stands.

    >>> least_watermark([5, 7], 3), least_watermark([], 3), least_watermark([None, 7], 3), least_watermark([1], 3)
    (5, 3, 3, 3)
    """
    least: int | None = None
    for watermark in streams:
        if watermark is None:
            return stored
        least = watermark if least is None else min(least, watermark)
    if least is None or stored is None:
        return least if stored is None else stored
    return max(least, stored)


def duration_us(delta: timedelta) -> int:
    """A duration in microseconds."""
    return delta // timedelta(microseconds=1)
