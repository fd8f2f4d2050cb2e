"""Which of 65,536 fixed cells does a number fall into? The ruler that every histogram of numbers here is made of.

A number's distance from its column's centre is rounded to float32 and its upper 16 bits (sign, exponent, 7 bits of
mantissa) are the cell. So a cell is at most 1/128 of the distance from the centre wide, finest where the data is, at any
scale; finding it costs a subtraction and a shift; and counts over cells are integers: exact, mergeable, free of order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS = 65536
ZERO = 32768
"""The ordered cell of the centre itself."""
FIRST, LAST = 128, 65407
"""The first and last ordered cells of finite numbers (beyond lie the infinities, then NaN)."""


def _order() -> NDArray[np.uint16]:
    raw = np.arange(CELLS)
    ordered = np.where(raw & 0x8000, raw ^ 0xFFFF, raw | 0x8000)
    ordered[0x8000] = ZERO  # minus zero is zero
    return ordered.astype(np.uint16)


ORDER = _order()
"""Ordered cell of each raw one: larger number, larger cell."""


def _starts() -> NDArray[np.float64]:
    """The number of least magnitude in each ordered cell, as a distance from the centre."""
    raw = (np.arange(CELLS) << 16).astype(np.uint32)
    with np.errstate(invalid="ignore"):
        distances = raw.view(np.float32).astype(np.float64)
    starts = np.zeros(CELLS)
    starts[ORDER] = distances
    starts[ZERO] = 0.0
    return starts


STARTS = _starts()


def raw_cells(values: NDArray[np.floating[Any]], centre: NDArray[np.float32] | np.float32) -> NDArray[np.uint32]:
    """The unordered cell of each value; ``ORDER`` sorts them. Numbers are taken as float32, as models take them."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = values.astype(np.float32, copy=False) - centre
    return distance.view(np.uint32) >> np.uint32(16)


def cell_of(value: float, centre: float) -> int:
    """The ordered cell of one finite number.

    >>> cell_of(5.0, 5.0) == ZERO, cell_of(6.0, 5.0) > ZERO
    (True, True)
    """
    return int(ORDER[raw_cells(np.array([value]), np.float32(centre))[0]])
