"""What is stored of a column that holds personal data? A keyed hash, or nothing; decided before the spool."""

from __future__ import annotations

from hashlib import blake2b
from math import isnan

import numpy as np
from perennial.frames import Table, Text


def hidden(table: Table, columns: tuple[tuple[str, bool, bool], ...], key: bytes) -> Table:
    """The table with those columns (name, whether a number, whether hashed) hashed or emptied; nulls stay nulls.

    A number's hash is a whole number below 2^24, so that it is the same in 32 bits.
    """
    numbers = table.numbers.copy()
    texts = dict(table.texts)
    for name, number, hashed in columns:
        if number:
            place = table.number_names.index(name)
            values = numbers[:, place].tolist() if hashed else ()
            numbers[:, place] = [_number(value, key) for value in values] if hashed else np.nan
        elif hashed:
            texts[name] = Text(table.texts[name].codes, tuple(_hash(value, key).hex() for value in table.texts[name].values))
        else:
            texts[name] = Text(np.full(table.rows, -1, dtype=np.int32), ())
    return Table(table.rows, table.number_names, numbers, texts)


def _hash(value: str, key: bytes) -> bytes:
    return blake2b(value.encode(), digest_size=16, key=key).digest()


def _number(value: float, key: bytes) -> float:
    return value if isnan(value) else float(int.from_bytes(_hash(repr(value), key)[:3], "big"))
