"""Who answers which row?

A row goes to the challenger when its key's place on a circle of 1000 is below the challenger's weight. The circle is
turned by deployment and version, so a key stays where it is while the weight grows, and another rollout draws anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from services.serving.domain.spec import FULL


def salt(deployment: str, version: str) -> bytes:
    """What turns the circle."""
    return blake2b(f"{deployment}\n{version}".encode(), digest_size=16).digest()


def place(turned: bytes, key: str) -> int:
    """The key's place, 0 to 999."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8, key=turned).digest(), "big") % FULL


def challenged(turned: bytes, keys: Iterable[str], weight: int) -> NDArray[np.bool_]:
    """For each key whether the challenger answers."""
    return np.fromiter((place(turned, key) < weight for key in keys), dtype=bool)
