"""A generated stream: hourly rows whose truth follows them, and a world that changes on a day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

START = datetime(2020, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROWS_AN_HOUR = 20


@dataclass(frozen=True)
class Hour:
    """Rows of one hour: inputs, their times, keys and truths."""

    start: datetime
    rows: dict[str, NDArray[np.float64] | list[str]]
    times_us: NDArray[np.int64]
    keys: list[str]
    truths: NDArray[np.float64]


def hours(first_day: int, until_day: int, *, changed_on: int, seed: int = 1) -> Iterator[Hour]:
    """The hours of these days; from ``changed_on`` the same inputs mean something else."""
    for number in range(first_day * 24, until_day * 24):
        random = np.random.default_rng((seed, number))
        start = START + number * HOUR
        x = random.normal(size=(ROWS_AN_HOUR, 3))
        group = random.choice(["a", "b"], ROWS_AN_HOUR).tolist()
        shift = 8.0 if number >= changed_on * 24 else 0.0
        known = 20 + 5 * x[:, 0] - 3 * x[:, 1] + np.where(np.array(group) == "a", 2.0, 0.0)
        truths = known + shift + random.normal(size=ROWS_AN_HOUR)
        rows: dict[str, Any] = {"x1": x[:, 0], "x2": x[:, 1], "x3": x[:, 2], "group": group}
        first_us = int(start.timestamp() * 1_000_000)
        times = first_us + np.sort(random.integers(0, 3_600_000_000, ROWS_AN_HOUR))
        keys = [f"{number}-{row}" for row in range(ROWS_AN_HOUR)]
        yield Hour(start, rows, times, keys, truths)
