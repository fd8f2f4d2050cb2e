"""Rows for the tests of statistics: seeded, with the clustered noise that real days and hours have."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from perennial.frames import Table

DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000


def mixed(rows: int = 400, seed: int = 0) -> Table:
    """Columns of every kind: continuous, discrete, constant, empty, with nulls, texts."""
    random = np.random.default_rng(seed)
    gappy = random.gamma(2, 500, rows)
    gappy[random.random(rows) < 0.1] = np.nan
    carrier = np.array(["UA", "AA", "DL", "B6", None], object)[random.integers(0, 5, rows)]
    columns: dict[str, Any] = {
        "temperature": random.normal(15, 8, rows),
        "distance": random.choice([187, 200, 719, 733, 1089, 2475, 2586], rows).astype(float),
        "constant": np.full(rows, 7.0),
        "empty": np.full(rows, np.nan),
        "gappy": gappy,
        "year": random.integers(2011, 2015, rows).astype(float),
        "carrier": list(carrier),
    }
    return Table.of(columns)


def times(rows: int, days: int = 10) -> NDArray[np.int64]:
    """Evenly spread over some days, in order."""
    return np.linspace(0, days * DAY_US - 1, rows).astype(np.int64)


def clustered(days: int, columns: int, seed: int, *, per_day: int = 400, spread: float = 0.3) -> tuple[Table, NDArray[np.int64]]:
    """Stationary days that share a shift: each day moves each column by a normal step of ``spread`` of its deviation."""
    random = np.random.default_rng(seed)
    shift = np.repeat(random.normal(0, spread, (days, columns)), per_day, axis=0)
    numbers = shift + random.normal(size=(days * per_day, columns))
    stamps = np.arange(days * per_day) * (DAY_US // per_day)
    return Table(len(numbers), tuple(f"c{i}" for i in range(columns)), numbers), stamps
