"""Blocks, judgement and states: pure."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perennial.errors import Aborted, FailedPrecondition, InvalidArgument

from services.trainer.domain.blocks import DAY_US, blocks_of
from services.trainer.domain.job import Author, Job, JobState
from services.trainer.domain.judgement import judged
from services.trainer.domain.recipe import Data, LogRows, Recipe, Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job("j", Data("0" * 64), Author("ann", "person"))
times = st.lists(st.integers(0, 80 * DAY_US), min_size=1, max_size=200).map(lambda t: np.sort(np.array(t, dtype=np.int64)))


@given(times, st.one_of(st.none(), st.integers(0, 80 * DAY_US)))
def test_blocks_are_runs_of_time(moments: np.ndarray, change: int | None) -> None:
    """Every row is in one block, blocks are in order, none spans the change or more than a day."""
    blocks = blocks_of(moments, change)
    assert (np.diff(blocks.of_row) >= 0).all()
    assert set(blocks.of_row) == set(range(blocks.count))
    for block in range(blocks.count):
        inside = moments[blocks.of_row == block]
        assert inside[-1] - inside[0] <= DAY_US
        assert change is None or not inside[0] < change <= inside[-1] or not moments[0] < change < moments[-1] + 1


def test_every_fifth_block_is_held_out_and_the_newest_is_among_them() -> None:
    """56 days: 12 blocks apart, the last day first."""
    moments = np.arange(0, 56 * DAY_US, DAY_US // 4, dtype=np.int64)
    blocks = blocks_of(moments)
    assert blocks.count == 56
    held = sorted(set(blocks.of_row[blocks.fold_of_row(5) == 0]))
    assert held == list(range(0, 56, 5))


def test_a_fresh_change_gets_blocks_of_its_own_size() -> None:
    """Ten hours after a change there are ten blocks of an hour, and two of them are judged."""
    moments = np.arange(0, 20 * DAY_US, DAY_US // 240, dtype=np.int64)
    change = 20 * DAY_US - 10 * 3_600_000_000
    blocks = blocks_of(moments, change)
    after = blocks.of_row[moments >= change]
    assert len(set(after)) in (10, 11)
    held = blocks.fold_of_row(5) == 0
    assert len(set(after[held[moments >= change]])) >= 2


def loss(level: float, *, days: int = 10, rows: int = 100, spread: float = 0.1, seed: int = 0) -> np.ndarray:
    """Losses whose level differs from day to day."""
    random = np.random.default_rng(seed)
    return np.repeat(level + random.normal(scale=spread, size=days), rows) + random.normal(scale=0.1, size=days * rows)


BLOCKS = np.repeat(np.arange(10), 100)
AFTER = np.zeros(1000, dtype=bool)


@pytest.mark.parametrize(("level", "harm"), [(0.5, False), (1.0, False), (1.05, False), (1.5, True), (3.0, True)])
def test_only_plain_harm_declines(level: float, harm: bool) -> None:
    """Worse by more than a tenth of the parent's loss, and by more than the days differ."""
    assert judged(loss(level), loss(1.0, seed=1), BLOCKS, AFTER).harm is harm


def test_days_that_differ_wildly_prove_nothing() -> None:
    """The mean is a fifth worse, the spread between blocks much more than that: no decline."""
    verdict = judged(loss(1.2, spread=1.5, seed=4), loss(1.0, spread=1.5, seed=5), BLOCKS, AFTER)
    assert not verdict.harm


def test_blocks_after_the_change_count_four_times() -> None:
    """A model worse in the old world and better in the new one does no harm."""
    before = BLOCKS < 5
    new = np.where(before, 1.3, 0.8)
    verdict = judged(new, np.ones(1000), BLOCKS, before)
    assert verdict.new_loss == pytest.approx((0.25 * 1.3 + 0.8) / 1.25)
    assert not verdict.harm


def test_nothing_to_judge_on_is_no_harm() -> None:
    """Every held-out block lies in the parent's own training window."""
    empty = np.empty(0)
    assert not judged(empty, empty, np.empty(0, dtype=np.int64), np.empty(0, dtype=bool)).harm
    assert judged(empty, empty, np.empty(0, dtype=np.int64), np.empty(0, dtype=bool)).figures() == {
        "judged_blocks": 0.0, "judged_rows": 0.0,
    }  # fmt: skip


def test_a_worker_that_lost_its_job_changes_nothing() -> None:
    """The fencing token decides, and so does the end of the job."""
    job = JOB.taken(NOW, deaths=3)
    assert job.held_with(0) is job
    with pytest.raises(Aborted):
        job.held_with(1)
    with pytest.raises(Aborted):
        job.cancelled("", NOW).held_with(0)


def test_a_job_that_kills_its_workers_fails_in_the_end() -> None:
    """Three deaths, not three takings: waiting for something that is away costs nothing."""
    job = JOB
    for _ in range(5):
        job = job.taken(NOW, deaths=3).requeued("the registry is away")
    assert (job.state, job.attempts, job.deaths) == (JobState.QUEUED, 5, 0)
    for _ in range(3):
        job = job.taken(NOW, deaths=3)
    assert (job.state, job.deaths) == (JobState.LEASED, 2)
    assert job.taken(NOW, deaths=3).state is JobState.FAILED


def test_an_ended_job_cannot_be_cancelled() -> None:
    """FAILED_PRECONDITION says how it ended."""
    with pytest.raises(FailedPrecondition, match="succeeded"):
        JOB.succeeded("1.0.0", NOW).cancelled("", NOW)


def test_recipes_and_data_survive_the_database() -> None:
    """Plain values and back."""
    recipe = Recipe("m", "linear", "regression", "y", ("a",), {"l2": 1.0}, 3, {"team": "x"})
    assert Recipe.from_json(recipe.to_json()) == recipe
    data = Data(log=LogRows("d", Snapshot("s", "k", "h", 1, 2), 1, 2, 1, "f"))
    assert Data.from_json(data.to_json()) == data
    with pytest.raises(InvalidArgument, match="cannot be an input"):
        Recipe("m", "linear", "regression", "y", ("y",)).checked()
