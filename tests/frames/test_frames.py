"""Do rows survive the wire?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.frames import Table, Text, decode, encode
from perennial.v1.common_pb2 import Blocks, Frame, PlainRows, TextColumn

NUMBERS = st.lists(st.floats(allow_infinity=False) | st.none(), min_size=3, max_size=3)
TEXTS = st.lists(st.text(max_size=3) | st.none(), min_size=3, max_size=3).filter(lambda v: any(x is not None for x in v))


@given(numbers=NUMBERS, texts=TEXTS)
def test_a_table_survives_the_wire(numbers: list[float | None], texts: list[str | None]) -> None:
    """What is encoded is decoded bit for bit, nulls included."""
    table = decode(Frame.FromString(encode(Table.of({"x": numbers, "t": texts})).SerializeToString()))
    assert np.array_equal(table.column("x"), np.array(numbers, dtype=float), equal_nan=True)
    assert table.column("t").tolist() == texts


def test_plain_rows_make_the_same_table_as_columns() -> None:
    """A JSON client's rows and a program's columns are one table; a column that a row lacks is null there."""
    frame = Frame(plain=PlainRows())
    frame.plain.rows.add().update({"x": 1.5, "t": "a"})
    frame.plain.rows.add().update({"x": None})
    assert list(decode(frame).to_rows()) == [{"x": 1.5, "t": "a"}, {"x": None, "t": None}]


@pytest.mark.parametrize(
    "blocks",
    [
        Blocks(rows=2, number_names=["x"], numbers=b"\0" * 15),
        Blocks(rows=1, number_names=["x", "x"], numbers=b"\0" * 16),
        Blocks(rows=1, texts=[TextColumn(name="t", codes=b"\1\0\0\0", values=["a"])]),
        Blocks(rows=1, texts=[TextColumn(name="t", codes=b"\xfe\xff\xff\xff", values=["a"])]),
        Blocks(rows=2, texts=[TextColumn(name="t", codes=b"\0\0\0\0", values=["a"])]),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks: Blocks) -> None:
    """Bytes that do not make the rows they claim are the caller's mistake, said so."""
    with pytest.raises(InvalidArgument):
        decode(Frame(blocks=blocks))


def test_tables_stand_side_by_side_and_one_after_the_other() -> None:
    """Merging keeps columns, concatenating keeps rows, whatever the dictionaries were."""
    left = Table.of({"t": ["b", "a"], "x": [1, 2]})
    right = Table.of({"t": ["c", None], "x": [3, 4]})
    both = Table.concat([left, right])
    assert both.column("t").tolist() == ["b", "a", "c", None]
    assert both.merged(Table.of({"y": [0, 0, 0, 0]})).names == ("x", "y", "t")
    with pytest.raises(InvalidArgument, match="twice"):
        left.merged(right)
    with pytest.raises(InvalidArgument, match="no column 'z'"):
        left.select(["z"])


def test_a_column_of_numbers_and_texts_is_refused() -> None:
    """A column has one kind."""
    with pytest.raises(InvalidArgument):
        Table.of({"x": [1, "a"]})
    assert Text.of([None, "a"]).codes.tolist() == [-1, 0]
