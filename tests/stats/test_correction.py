"""Does the step-up rule reject what Benjamini and Hochberg say?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.stats.correction import adjusted, discoveries
from scipy import stats


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_adjusted_p_values_are_scipys(p: list[float]) -> None:
    """They agree with scipy.stats.false_discovery_control, in the order given."""
    assert adjusted(p) == pytest.approx(stats.false_discovery_control(p), abs=1e-12)


def test_the_paper_s_table() -> None:
    """Of the fifteen p-values of Benjamini and Hochberg (1995, section 4.1), four are discoveries at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert discoveries(p, 0.05).sum() == 4


def test_what_is_no_probability_is_refused() -> None:
    """NaN and numbers beyond 0..1 are the caller's mistake."""
    for bad in ([np.nan], [1.5], [-0.1]):
        with pytest.raises(InvalidArgument):
            adjusted(bad)
