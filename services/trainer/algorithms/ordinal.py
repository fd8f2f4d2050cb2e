"""How do tree models read text columns?

As the place of the text in the sorted list of those seen in training, inside the graph. Null and texts never seen are
nulls, and trees send nulls down a side of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from perennial.frames import Table, Text
from perennial.package.graph import GraphBuilder
from perennial.package.predictor import NUMBERS
from perennial.package.signature import Signature

from services.trainer.algorithms.base import Floats


@dataclass(frozen=True, slots=True)
class OrdinalEncoding:
    """The texts of every text column, sorted; the columns of the matrix are the numbers, then the texts."""

    signature: Signature
    vocabularies: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rows: Table, signature: Signature) -> OrdinalEncoding:
        """The encoding of the texts that these rows hold."""
        return cls(signature, tuple(seen(rows.texts[name]) for name in signature.text_names))

    @property
    def names(self) -> tuple[str, ...]:
        """The matrix's columns."""
        return (*self.signature.number_names, *self.signature.text_names)

    def matrix(self, rows: Table) -> Floats:
        """Rows as numbers in 64 bits whose values fit in 32."""
        numbers = rows.numbers.astype(np.float32).astype(np.float64)
        texts = [
            encoded(rows.texts[name], words) for name, words in zip(self.signature.text_names, self.vocabularies, strict=True)
        ]
        return np.ascontiguousarray(np.column_stack([numbers.reshape(rows.rows, -1), *texts]))

    def features(self, graph: GraphBuilder) -> str:
        """The same matrix inside a graph."""
        parts = [NUMBERS] if self.signature.number_names else []
        for place, words in enumerate(self.vocabularies):
            parts.append(graph.text_code(place, {word: float(code) for code, word in enumerate(words)}))
        return graph.side_by_side(parts)


def seen(text: Text) -> tuple[str, ...]:
    """The texts a column really holds, sorted; the empty text counts as null."""
    used = np.unique(text.codes)
    return tuple(sorted({text.values[code] for code in used if code >= 0} - {""}))


def encoded(text: Text, words: tuple[str, ...]) -> Floats:
    """A text column as places in ``words``; NaN for null and for what is not among them."""
    places = {word: float(place) for place, word in enumerate(words)}
    table = np.array([*(places.get(value, np.nan) for value in text.values), np.nan])
    return table[text.codes]
