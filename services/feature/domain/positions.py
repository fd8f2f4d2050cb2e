"""Which positions of a stream are new?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def new_positions(taken: Sequence[int], first: int, count: int) -> NDArray[np.bool_]:
    """For positions first, first + 1, … whether each lies outside ``taken``, ranges written [from, to, from, to, …).

    >>> new_positions([1, 4, 6, 7], 3, 4).tolist()
    [False, True, True, False]
    """
    place = np.searchsorted(np.asarray(taken, dtype=np.int64), np.arange(first, first + count), side="right")
    new: NDArray[np.bool_] = place % 2 == 0
    return new


def with_positions(taken: Sequence[int], first: int, count: int) -> list[int]:
    """The ranges with positions first to first + count added, touching ones joined.

    >>> with_positions([1, 4, 6, 7], 4, 2)
    [1, 7]
    """
    if not count:
        return list(taken)
    ranges = sorted([*zip(taken[::2], taken[1::2], strict=True), (first, first + count)])
    found: list[int] = []
    for start, stop in ranges:
        if found and start <= found[-1]:
            found[-1] = max(found[-1], stop)
        else:
            found += [start, stop]
    return found
