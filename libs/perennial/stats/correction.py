"""Which of many p-values count? Benjamini and Hochberg's step-up rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perennial.errors import InvalidArgument


def adjusted(p_values: ArrayLike) -> NDArray[np.float64]:
    """The least false discovery rate at which each would be rejected, in the order given.

    min over j >= i of p_(j) m / j (Benjamini and Hochberg 1995). InvalidArgument when one is not within 0..1.

    >>> adjusted([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.04, 0.04]
    """
    given = np.asarray(p_values, float)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise InvalidArgument("p-values lie between 0 and 1")
    order = np.argsort(given, kind="stable")
    ranks = np.arange(1, len(given) + 1)
    stepped = np.minimum.accumulate((given[order] * len(given) / ranks)[::-1])[::-1]
    result = np.empty(len(given))
    result[order] = np.minimum(stepped, 1.0)
    return result


def discoveries(p_values: ArrayLike, q: float) -> NDArray[np.bool_]:
    """Which p-values are rejected at false discovery rate ``q``."""
    return adjusted(p_values) <= q
