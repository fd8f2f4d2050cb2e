"""Small models and rows to package."""

from typing import Any

import numpy as np
from perennial.frames import Table


def rows(count: int = 400, *, seed: int = 0, nulls: float = 0.1) -> tuple[Table, Any]:
    """Numbers with nulls, rounded to 32 bits, and something to learn."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 4)).astype(np.float32)
    numbers[random.random(numbers.shape) < nulls] = np.nan
    truth = 3 * np.nan_to_num(numbers[:, 0]) + np.nan_to_num(numbers[:, 1]) ** 2 + random.normal(size=count) * 0.1
    return Table(count, ("a", "b", "c", "d"), numbers), truth
