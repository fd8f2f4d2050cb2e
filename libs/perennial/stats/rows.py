"""What shape do rows have here? The table that :mod:`perennial.frames` makes, described without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class TextColumn(Protocol):
    """A dictionary-coded text column: ``codes[i]`` is an index into ``values``, or -1 for null."""

    @property
    def codes(self) -> NDArray[np.int32]:
        """One code a row."""

    @property
    def values(self) -> tuple[str, ...]:
        """The distinct texts."""


class Rows(Protocol):
    """Rows of named columns: one matrix of numbers (NaN is null) and a coded column a text."""

    @property
    def rows(self) -> int:
        """How many rows."""

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of the matrix's columns."""

    @property
    def numbers(self) -> NDArray[np.floating[Any]]:
        """Rows x number columns."""

    @property
    def texts(self) -> Mapping[str, TextColumn]:
        """Text columns by name."""
