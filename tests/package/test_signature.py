"""What a signature promises to Predict, to the registry and to itself."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.frames import Table, Text, decode, encode
from perennial.package import Column, ColumnType, Pii, Signature, Task
from perennial.v1 import common_pb2 as pb

NUMBER, TEXT = ColumnType.NUMBER, ColumnType.TEXT
ETA = Signature.of([
    Column("miles", NUMBER, nullable=False), Column("carrier", TEXT, nullable=False), Column("gust", NUMBER),
    Column("tail", TEXT),
])  # fmt: skip
GOOD: dict[str, Any] = {"miles": [100.0, 200.0], "carrier": ["UA", "AA"], "gust": [3.0, None], "tail": [None, "N1"]}
names = st.text(min_size=1, max_size=12)
columns = st.builds(Column, names, st.sampled_from(ColumnType), st.booleans(), st.sampled_from(Pii))
signatures = st.one_of(
    st.builds(Signature.of, st.lists(columns, min_size=1, max_size=6, unique_by=lambda c: c.name)),
    st.builds(
        lambda c, k: Signature.of(c, Task.CLASSIFICATION, k),
        st.lists(columns, min_size=1, max_size=6, unique_by=lambda c: c.name),
        st.lists(names, min_size=2, max_size=5, unique=True),
    ),
)


@given(signatures)
def test_both_encodings_give_the_signature_back(signature: Signature) -> None:
    """Proto and JSON lose nothing, and the digest is the same after either."""
    assert Signature.from_proto(signature.to_proto()) == signature
    assert Signature.from_json(signature.to_json()) == signature
    assert Signature.from_json(signature.to_json()).digest == signature.to_proto().digest


@given(signatures, signatures)
def test_the_digest_names_one_signature(one: Signature, other: Signature) -> None:
    """Equal digests are equal signatures."""
    assert (one == other) == (one.digest == other.digest)


def test_the_digest_is_what_it_always_was() -> None:
    """Stored versions are named by it: this text and its sha256 are the format."""
    signature = Signature.of([Column("é", NUMBER, nullable=False)])
    text = '{"classes":[],"columns":[{"name":"é","nullable":false,"pii":"none","type":"number"}],"task":"regression"}'
    import hashlib

    assert signature.digest == hashlib.sha256(text.encode()).hexdigest()


def test_rows_come_back_in_signature_order() -> None:
    """Whatever order the columns came in."""
    shuffled = {name: GOOD[name] for name in ("tail", "gust", "carrier", "miles")}
    checked = ETA.check(Table.of(shuffled))
    assert checked.number_names == ("miles", "gust")
    assert tuple(checked.texts) == ("carrier", "tail")
    assert checked.column("miles").tolist() == [100.0, 200.0]


def test_rows_in_signature_order_are_not_copied() -> None:
    """Predict's usual rows cost one look."""
    table = ETA.check(Table.of(GOOD))
    assert ETA.check(table).numbers is table.numbers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"miles": None}, "'miles' is missing"),
        ({"speed": [1.0, 2.0]}, "'speed' is unknown"),
        ({"miles": ["a", "b"]}, "'miles' must hold numbers"),
        ({"carrier": [1.0, 2.0]}, "'carrier' must hold texts"),
        ({"miles": [1.0, None]}, "'miles', row 1: null"),
        ({"carrier": ["UA", None]}, "'carrier', row 1: null"),
        ({"gust": [1.0, float("inf")]}, "'gust', row 1: inf"),
        ({"gust": [float("-inf"), None]}, "'gust', row 0: -inf"),
        ({"gust": [1e39, None]}, "not a finite 32-bit number"),
    ],
)
def test_a_wrong_row_is_named(change: dict[str, Any], words: str) -> None:
    """The message has the column, and the row where there is one."""
    rows = {name: values for name, values in {**GOOD, **change}.items() if values is not None}
    with pytest.raises(InvalidArgument) as refusal:
        ETA.check(Table.of(rows))
    assert words in refusal.value.message


def test_a_column_of_nulls_has_any_type() -> None:
    """Plain JSON rows cannot say the type of a null."""
    plain = pb.Frame(plain=pb.PlainRows())
    plain.plain.rows.add().update({"miles": 1.0, "carrier": "UA", "gust": None, "tail": None})
    checked = ETA.check(decode(plain))
    assert np.isnan(checked.column("gust")).all()
    assert checked.column("tail").tolist() == [None]
    texts = Table.of({"miles": [1.0], "carrier": ["UA"], "gust": Text(np.array([-1], dtype=np.int32), ()), "tail": ["x"]})
    assert np.isnan(ETA.check(texts).column("gust")).all()


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_packed_rows_of_any_number_pass(rows: int) -> None:
    """Also none at all."""
    table = Table.of({"miles": [1.0] * rows, "gust": [2.0] * rows}).merged(
        Table(rows, (), np.empty((rows, 0)), {"carrier": Text.of(["UA"] * rows), "tail": Text.of([None] * rows)})
    )
    assert ETA.check(decode(encode(table))).rows == rows


@pytest.mark.parametrize(
    ("columns", "task", "classes"),
    [
        ([], Task.REGRESSION, ()),
        ([Column("", NUMBER)], Task.REGRESSION, ()),
        ([Column("a", NUMBER), Column("a", TEXT)], Task.REGRESSION, ()),
        ([Column("a", NUMBER)], Task.REGRESSION, ("x", "y")),
        ([Column("a", NUMBER)], Task.CLASSIFICATION, ("x",)),
        ([Column("a", NUMBER)], Task.CLASSIFICATION, ("x", "x")),
    ],
)
def test_what_is_no_signature_is_refused(columns: list[Column], task: Task, classes: tuple[str, ...]) -> None:
    """At least one column, every name once, classes for a classification only."""
    with pytest.raises(InvalidArgument):
        Signature.of(columns, task, classes)


def test_a_message_with_another_digest_is_refused() -> None:
    """A signature cannot carry somebody else's name."""
    message = ETA.to_proto()
    message.digest = "0" * 64
    with pytest.raises(InvalidArgument, match="digest"):
        Signature.from_proto(message)
