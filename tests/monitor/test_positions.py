"""Rows are taken once, whatever is sent again and in whatever pieces."""

from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain.positions import DEAD, MISSING, Gap, Position, count

PIECES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), max_size=40)


@given(PIECES)
def test_every_position_is_taken_at_most_once_and_gaps_are_what_was_not_seen(pieces: list[tuple[int, int]]) -> None:
    """Any pieces in any order: the union is taken, nothing twice, and the open gaps are exactly the rest below next_n."""
    position, seen = Position(), set[int]()
    for first, rows in pieces:
        position, ranges = position.taken(first, rows)
        new = {n for a, b in ranges for n in range(a, b + 1)}
        assert count(ranges) == len(new)
        assert new == set(range(first, first + rows)) - seen
        seen |= new
    missing = {n for gap in position.gaps for n in range(gap.first, gap.last + 1)}
    assert seen | missing == set(range(1, position.next_n))
    assert not seen & missing
    assert list(position.gaps) == sorted(position.gaps, key=lambda gap: gap.first)


def test_a_repeat_with_other_boundaries_brings_only_its_new_tail() -> None:
    """Rows 1–5 again inside 3–8 bring 6–8."""
    position, _ = Position().taken(1, 5)
    assert position.taken(3, 6) == (Position(9), ((6, 8),))


def test_a_jump_opens_a_gap_that_a_replay_fills_in_parts() -> None:
    """Reading goes on past missing rows; each part of them is taken when it comes."""
    position, ranges = Position().taken(11, 2)
    assert (position.gaps, ranges) == ((Gap(1, 10, MISSING),), ((11, 12),))
    position, ranges = position.taken(4, 3)
    assert ranges == ((4, 6),)
    assert position.gaps == (Gap(1, 3, MISSING), Gap(7, 10, MISSING))


def test_the_producers_word_closes_the_jump_and_counts_once() -> None:
    """StreamGap 6–9 said twice drops four rows once."""
    position, _ = Position().taken(1, 5)
    position, dropped = position.dropped(6, 9)
    assert (dropped, position) == (4, Position(10))
    assert position.dropped(6, 9) == (Position(10), 0)


def test_a_dead_lettered_batch_is_a_gap_of_its_own_kind_until_its_replay() -> None:
    """Its rows are open until they come again."""
    position = Position().dead(1, 4)
    assert position.gaps == (Gap(1, 4, DEAD),)
    assert position.taken(1, 4) == (Position(5), ((1, 4),))


def test_an_ended_stream_misses_what_was_never_seen() -> None:
    """StreamEnded{last_n: 7} after row 5 leaves 6–7 missing; a smaller last_n says nothing new."""
    position, _ = Position().taken(1, 5)
    assert position.ended(7).gaps == (Gap(6, 7, MISSING),)
    assert position.ended(3) == position
