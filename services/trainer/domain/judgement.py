"""Would the new model do harm?

On blocks that neither the new recipe's fit nor the parent has seen, the mean loss of both is compared block by block.
Only harm declines: a loss more than ``margin`` worse than the parent's that the spread between blocks cannot explain.
Blocks before the change weigh a quarter: they say what the world was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARGIN = 0.1
WEIGHT_BEFORE_CHANGE = 0.25
_ONE_SIDED_95 = 1.645
_LEAST_BLOCKS = 3
_PLAIN_HARM = 0.5
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Weighted mean losses on the judged blocks; ``harm`` declines."""

    blocks: int = 0
    rows: int = 0
    new_loss: float = float("nan")
    parent_loss: float = float("nan")
    error: float = float("nan")
    """Standard error of their difference, from the spread between blocks."""
    harm: bool = False

    @property
    def reason(self) -> str:
        """In words."""
        return (
            f"on {self.blocks} held-out blocks ({self.rows} rows) the new model's loss is {self.new_loss:.4g}, "
            f"its parent's {self.parent_loss:.4g}, difference {self.new_loss - self.parent_loss:+.4g} ± {self.error:.2g}"
        )

    def figures(self) -> dict[str, float]:
        """The figures that are numbers."""
        found = {
            "judged_blocks": float(self.blocks), "judged_rows": float(self.rows), "judged_loss": self.new_loss,
            "judged_parent_loss": self.parent_loss, "judged_error": self.error,
        }  # fmt: skip
        return {name: value for name, value in found.items() if np.isfinite(value)}


def judged(
    new: Floats, parent: Floats, blocks: NDArray[np.int64], before_change: NDArray[np.bool_], *, margin: float = MARGIN
) -> Judgement:
    """The verdict on losses a row of both models; nothing to judge on is no harm.

    >>> judged(np.ones(9), np.ones(9), np.arange(9) // 3, np.zeros(9, bool)).harm
    False
    """
    if not len(new):
        return Judgement()
    _, block_of_row = np.unique(blocks, return_inverse=True)
    size: NDArray[Any] = np.bincount(block_of_row)
    difference = np.bincount(block_of_row, new - parent) / size
    level = np.bincount(block_of_row, parent) / size
    share_before = np.bincount(block_of_row, before_change.astype(float)) / size
    weight = size * np.where(share_before > 0.5, WEIGHT_BEFORE_CHANGE, 1.0)
    weight = weight / weight.sum()
    mean, parent_mean = float(weight @ difference), float(weight @ level)
    count = len(size)
    error = float("inf")
    if count > 1:
        error = float(np.sqrt((weight**2) @ (difference - mean) ** 2 * count / (count - 1)))
    if count >= _LEAST_BLOCKS:
        harm = mean > margin * parent_mean and mean > _ONE_SIDED_95 * error
    else:
        harm = mean > max(_PLAIN_HARM, margin) * parent_mean
    return Judgement(count, len(new), parent_mean + mean, parent_mean, error, harm)
