"""Which rows are kept apart to see what a recipe is worth?

Rows of the same hours share their weather, so whole blocks of time are kept apart, never single rows: days, and finer
blocks after a change that is only hours old, so that both sides hold rows of the new kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAY_US = 86_400_000_000
FOLDS = 5
_BLOCKS_AFTER_CHANGE = 10
Times = NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """Each row's block (0, 1, … in order of time) and each block's first instant."""

    of_row: NDArray[np.int64]
    starts_us: Times

    @property
    def count(self) -> int:
        """How many blocks hold rows."""
        return len(self.starts_us)

    def fold_of_row(self, folds: int) -> NDArray[np.int64]:
        """Each row's fold: every ``folds``-th block is in the same one, and the newest block is in fold 0."""
        return np.asarray((self.count - 1 - self.of_row) % folds)


def blocks_of(times_us: Times, change_us: int | None = None, folds: int = FOLDS) -> Blocks:
    """The blocks of sorted times: days, or as short as gives each fold two; after the change at least ten where there is time."""
    start, end = int(times_us[0]), int(times_us[-1]) + 1
    width = min(DAY_US, max(1, (end - start) // (2 * folds)))
    key = times_us // width
    if change_us is not None and start < change_us < end:
        fine = min(width, max(1, (end - change_us) // _BLOCKS_AFTER_CHANGE))
        after = times_us >= change_us
        first = (change_us - 1) // width + 1
        key = np.where(after, first + (times_us - change_us) // fine, key)
    _, places, of_row = np.unique(key, return_index=True, return_inverse=True)
    return Blocks(np.asarray(of_row, dtype=np.int64), times_us[places])


def folds_that_fit(blocks: Blocks, folds: int = FOLDS) -> int:
    """As many folds as there are blocks for, at least 2 where there are 2 blocks."""
    return max(1, min(folds, blocks.count))


def spread_places(count: int, wanted: int) -> NDArray[np.integer[Any]]:
    """``wanted`` places spread evenly over ``count`` rows, or all of them."""
    return np.unique(np.linspace(0, count - 1, num=min(count, wanted)).astype(np.int64))
