"""Is a fold the same whatever way its rows came? (# MON-22 MON-23 S09)"""



from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perennial.errors import DataLoss, InvalidArgument
from perennial.frames import Table
from perennial.stats.columns import MISSING, MISTYPED, POSITIVE_INFINITY
from perennial.stats.fold import Fold, Folder, merge_folds
from perennial.stats.profile import Profile, build_profile

from tests.stats import made

PROFILE = build_profile(
    made.mixed(),
    times_us=made.times(400),
    outputs=Table.of({"prediction": np.arange(100.0), "label": ["a", "b"] * 50}),
    output_times_us=made.times(100),
)
FOLDER = Folder(PROFILE)


def same(first: Fold, second: Fold) -> bool:
    """Equal in every count, sum and sampled text."""
    held = (first.counts == second.counts).all() and (first.sums == second.sums).all()
    return bool(held) and first.rows == second.rows and first.unseen == second.unseen and first.profile == second.profile


def outputs_of(rows: int) -> Table:
    return Table.of({"prediction": np.linspace(-5, 200, rows), "label": (["a", "c", "b", "d"] * rows)[:rows]})


def test_the_reference_folded_is_its_own_counts() -> None:
    """Folding the training set gives the counts that the profile was built with."""
    assert (FOLDER.fold(made.mixed()).counts[: PROFILE.inputs.bins] == PROFILE.counts[: PROFILE.inputs.bins]).all()


@given(cuts=st.lists(st.integers(0, 300), max_size=6), order=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_batch_edges_and_order_change_nothing(cuts: list[int], order: object) -> None:
    """Any partition of the rows, merged in any order, is the fold of all rows."""
    rows, outputs = made.mixed(300, seed=5), outputs_of(300)
    edges = [0, *sorted(cuts), 300]
    parts = [FOLDER.fold(rows.slice(a, b), outputs.slice(a, b)) for a, b in pairwise(edges)]
    order.shuffle(parts)  # type: ignore[attr-defined]
    assert same(merge_folds([FOLDER.empty(), *parts]), FOLDER.fold(rows, outputs))


@given(seeds=st.lists(st.integers(0, 50), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_merging_is_associative_and_commutative(seeds: list[int]) -> None:
    """(a + b) + c = a + (b + c) = c + b + a."""
    a, b, c = (FOLDER.fold(made.mixed(60, seed=s), outputs_of(60)) for s in seeds)
    assert same(a.merged(b).merged(c), a.merged(b.merged(c)))
    assert same(a.merged(b).merged(c), c.merged(b).merged(a))


def test_large_batches_are_cut_into_chunks_without_a_trace() -> None:
    """More rows than a chunk give the fold of their parts."""
    rows = made.mixed(10_000, seed=8)
    assert same(FOLDER.fold(rows), merge_folds([FOLDER.fold(rows.slice(a, a + 1000)) for a in range(0, 10_000, 1000)]))


def test_panes_split_the_rows() -> None:
    """Folds by pane are the folds of each pane's rows."""
    rows, outputs = made.mixed(200, seed=2), outputs_of(200)
    panes = np.arange(200, dtype=np.int64) % 3
    found = FOLDER.fold_panes(panes, rows, outputs)
    assert sorted(found) == [0, 1, 2]
    chosen = np.flatnonzero(panes == 1)
    assert same(found[1], FOLDER.fold(rows.take(chosen), outputs.take(chosen)))
    assert same(merge_folds(list(found.values())), FOLDER.fold(rows, outputs))


@given(seed=st.integers(0, 1000), rows=st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_bytes_carry_a_fold_whole(seed: int, rows: int) -> None:
    """What was written is read."""
    fold = FOLDER.fold(made.mixed(rows, seed), outputs_of(rows)) if rows else FOLDER.empty()
    assert same(Fold.from_bytes(fold.to_bytes()), fold)


@pytest.mark.parametrize("kept", [slice(0, 0), slice(0, 10), slice(0, 40), slice(0, -3), slice(4, None)])
def test_damaged_bytes_are_data_loss(kept: slice) -> None:
    """A cut or foreign fold is never taken for a fold."""
    with pytest.raises(DataLoss):
        Fold.from_bytes(FOLDER.fold(made.mixed(50)).to_bytes()[kept])


def test_folds_over_different_profiles_do_not_add_up() -> None:
    """A new version's profile has other bins."""
    other = Folder(build_profile(made.mixed(seed=9), times_us=made.times(400)))
    with pytest.raises(InvalidArgument, match="do not add up"):
        FOLDER.empty().merged(other.empty())


def count(name: str, fold: Fold, place: int) -> int:
    at = [column.name for column in PROFILE.columns].index(name)
    return int(PROFILE.counts_of(at, fold.counts)[place])


def test_nulls_infinities_and_lacking_columns_are_told_apart() -> None:
    """NaN is missing, an overflow of float32 is infinite, a column that is not there or is of the other kind is mistyped."""
    rows = Table.of({"temperature": [np.nan, 1e300, 3.0], "distance": ["far", "near", "far"], "carrier": [np.nan, np.nan, 1.0]})
    fold = FOLDER.fold(rows)
    assert count("temperature", fold, MISSING) == 1
    assert count("temperature", fold, POSITIVE_INFINITY) == 1
    assert count("distance", fold, MISTYPED) == 3
    assert count("gappy", fold, MISTYPED) == 3
    assert (count("carrier", fold, MISSING), count("carrier", fold, MISTYPED)) == (2, 1)


def test_means_are_exact_to_the_unit() -> None:
    """The fixed-point sums give the mean of the float32 values to within a unit, nulls and infinities aside."""
    rows = made.mixed(500, seed=4)
    fold = FOLDER.fold(rows)
    for place, column in enumerate(PROFILE.inputs.numbers):
        values = rows.column(column.name).astype(np.float32).astype(float)
        found = column.mean(PROFILE.counts_of(place, fold.counts), int(fold.sums[place]))
        assert np.isnan(values).all() or found == pytest.approx(np.nanmean(values), abs=column.scale / 60_000)


def test_an_infinity_does_not_move_the_mean() -> None:
    """Numbers beyond float32 are counted apart and leave the sum alone, whichever sign they have."""
    fold = FOLDER.fold(Table.of({"temperature": [1e300, -1e300, -1e300, np.nan, 3.0, 5.0]}))
    column = PROFILE.inputs.numbers[0]
    assert column.mean(PROFILE.counts_of(0, fold.counts), int(fold.sums[0])) == pytest.approx(4.0, abs=1e-3)


def test_unseen_texts_are_sampled_with_exact_counts() -> None:
    """Of many new texts the same sixteen stay whatever the order, each with its count."""
    texts = [f"new-{i % 40}" for i in range(400)]
    rows = Table.of({"carrier": texts})
    whole = FOLDER.fold(rows).unseen["carrier"]
    parts = [FOLDER.fold(rows.slice(a, a + 7)) for a in range(0, 400, 7)]
    assert merge_folds(parts[::-1]).unseen["carrier"] == whole
    assert len(whole) == 16
    assert set(whole.values()) == {10}


def test_columns_in_another_order_fold_the_same() -> None:
    """Columns go by name."""
    rows = made.mixed(100, seed=6)
    turned = Table.of({name: list(rows.column(name)) for name in reversed(rows.names)})
    assert same(FOLDER.fold(rows), FOLDER.fold(turned.select(turned.names)))


def test_a_profile_survives_its_bytes() -> None:
    """The same profile has the same bytes, and what is read back folds alike."""
    data = PROFILE.to_bytes()
    again = Profile.from_bytes(data)
    assert again.to_bytes() == data
    assert same(Folder(again).fold(made.mixed(80)), FOLDER.fold(made.mixed(80)))
    assert data == build_profile(
        made.mixed(),
        times_us=made.times(400),
        outputs=Table.of({"prediction": np.arange(100.0), "label": ["a", "b"] * 50}),
        output_times_us=made.times(100),
    ).to_bytes()


@given(place=st.integers(0, 3000), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_a_damaged_profile_is_data_loss_or_unharmed(place: int, value: int) -> None:
    """No flipped byte gives anything but DataLoss or the same profile."""
    data = bytearray(PROFILE.to_bytes())
    data[place % len(data)] = value
    with suppress(DataLoss):
        assert Profile.from_bytes(bytes(data)).checksum == PROFILE.checksum


@pytest.mark.parametrize(
    ("inputs", "stamps", "message"),
    [
        (Table.of({"x": np.array([], float)}), [], "needs rows"),
        (Table.of({"x": [1.0, np.inf]}), [0, 1], "infinite"),
        (Table.of({"x": [1.0, 2.0]}), [0], "times do not fit"),
    ],
)
def test_a_reference_that_cannot_be_is_refused(inputs: Table, stamps: list[int], message: str) -> None:
    """No rows, infinities and a wrong number of times are said in words."""
    with pytest.raises(InvalidArgument, match=message):
        build_profile(inputs, times_us=np.array(stamps, np.int64))


def test_quantiles_of_the_sketch_are_within_half_a_cell() -> None:
    """The sketch's quantiles differ from the rows' by at most 1/128 of the distance from the column's centre."""
    values = np.random.default_rng(1).lognormal(3, 1.5, 5000)
    profile = build_profile(Table.of({"x": values}), times_us=made.times(5000))
    column = profile.inputs.numbers[0]
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        exact = float(np.quantile(values, share))
        assert column.quantile(share) == pytest.approx(exact, abs=abs(exact - column.centre) / 64)
