"""How does one sum floats so that neither order nor grouping can be seen in the result?

A sum here is *the correctly rounded sum of the exact values*. Values are cut into limbs, integers on a shared grid small
enough that adding them in float64 never rounds; the limbs' totals are then rounded once. A total that one float cannot
hold is kept as an expansion: the rounded total, then the rounded remainder, and so on (Shewchuk 1997, Adaptive Precision
Floating-Point Arithmetic, section 2), which is unique for a given total.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

_PRECISION = 53
LARGEST = 1e290
"""Greatest magnitude of a number that may be summed; sums of fewer than 1e17 of them stay finite."""


def limbs(values: Floats, adders: int) -> list[tuple[int, Floats]]:
    """``values`` as a sum of ``integers * 2**exponent``; any ``adders`` integers of one limb add up without rounding."""
    greatest = float(np.abs(values).max(initial=0.0))
    if greatest == 0.0:
        return []
    width = _PRECISION - max(1, adders).bit_length()
    exponent = math.frexp(greatest)[1] - width
    rest, found = values, []
    while True:
        integers = np.trunc(np.ldexp(rest, -exponent))
        found.append((exponent, integers))
        rest = rest - np.ldexp(integers, exponent)
        if not rest.any():
            return found
        exponent -= width


def rounded(terms: Sequence[Floats], shape: tuple[int, ...]) -> Floats:
    """The correctly rounded sum of ``terms``, element by element."""
    if not terms:
        return np.zeros(shape)
    if len(terms) == 1:
        return terms[0]
    if len(terms) == 2:
        return np.asarray(terms[0] + terms[1])
    flat = zip(*(term.ravel().tolist() for term in terms), strict=True)
    return np.fromiter(map(math.fsum, flat), dtype=np.float64, count=terms[0].size).reshape(shape)


class PrefixSums:
    """Sums of ``values[start:stop]``, column by column, for any number of ranges, as terms that :func:`rounded` adds up."""

    def __init__(self, values: Floats) -> None:
        self._parts = []
        for exponent, integers in limbs(values, len(values)):
            sums = np.zeros((len(values) + 1, values.shape[1]))
            np.cumsum(integers, axis=0, out=sums[1:])
            self._parts.append((exponent, sums))

    def terms(self, start: Places, stop: Places) -> list[Floats]:
        """The exact sums of the ranges as a few terms each, ranges x columns."""
        return [np.ldexp(sums[stop] - sums[start], exponent) for exponent, sums in self._parts]


def group_sums(values: Floats, starts: Places) -> list[Floats]:
    """The exact sums, column by column, of the groups of rows that begin at ``starts``, as expansions.

    First the rounded sums, then the remainders.
    """
    sizes = np.diff(starts, append=len(values))
    terms = [
        np.ldexp(np.add.reduceat(integers, starts, axis=0), exponent)
        for exponent, integers in limbs(values, int(sizes.max(initial=1)))
    ]
    if len(terms) < 2:
        return terms or [np.zeros((len(starts), values.shape[1]))]
    if len(terms) == 2:
        return _two(terms[0], terms[1])
    return _many(terms)


def expansion(values: Sequence[float]) -> list[float]:
    """The exact sum of ``values``: its rounding, the rounding of what is left, and so on; empty for zero."""
    found: list[float] = []
    while (part := math.fsum([*values, *(-known for known in found)])) != 0.0:
        found.append(part)
    return found


def _two(left: Floats, right: Floats) -> list[Floats]:
    """Knuth's TwoSum: the rounded sum and what it lost."""
    total = left + right
    virtual = total - left
    lost = (left - (total - virtual)) + (right - virtual)
    return [total, lost] if lost.any() else [total]


def _many(terms: Sequence[Floats]) -> list[Floats]:
    shape = terms[0].shape
    expansions = [expansion(row) for row in zip(*(term.ravel().tolist() for term in terms), strict=True)]
    levels = [np.zeros(len(expansions)) for _ in range(max(1, *map(len, expansions)))]
    for place, parts in enumerate(expansions):
        for level, part in enumerate(parts):
            levels[level][place] = part
    return [level.reshape(shape) for level in levels]
