"""Does a retraining convert what was served in the old unit?"""

from __future__ import annotations

import polars as pl
import pytest
from perennial.errors import InvalidArgument
from perennial.v1 import events_pb2

from services.trainer import wire
from services.trainer.agent.work.rows import _converted
from services.trainer.domain.recipe import Data, LogRows, Snapshot, UnitChange

CHANGE = UnitChange("distance", 1.609344, 100)
ROWS = LogRows("eta", Snapshot("s", "k", "d" * 64), 0, 200, units=(CHANGE,))


def test_only_values_before_the_change_are_multiplied() -> None:
    """From the change on, values are as served; columns of other names stay."""
    rows = pl.DataFrame({"event_time_us": [99, 100, 101], "distance": [10.0, 20.0, None], "hour": [1.0, 2.0, 3.0]})
    found = _converted(rows, [CHANGE, UnitChange("absent", 2.0, 100)])
    assert found["distance"].to_list() == [16.09344, 20.0, None]
    assert found["hour"].to_list() == [1.0, 2.0, 3.0]


def test_the_change_survives_the_wire_and_the_queue() -> None:
    """What the monitor asked for is what the work process is told, however it got there."""
    request = events_pb2.RetrainingRequested(deployment="eta")
    change = request.unit_changes.add(column="distance", factor=1.609344)
    change.since.FromMicroseconds(100)
    assert wire.requested_from(request).log == LogRows("eta", Snapshot("", "", ""), 0, 0, units=(CHANGE,))
    data = Data(log=ROWS)
    assert Data.from_json(data.to_json()) == data
    assert wire.data_from(wire.data_to(data)) == data


def test_a_factor_that_is_none_is_refused() -> None:
    """Zero, negative and infinite factors would destroy a column."""
    for factor in (0.0, -1.0, float("inf"), float("nan")):
        rows = LogRows("eta", Snapshot("s", "k", "d" * 64), 0, 200, units=(UnitChange("x", factor, 1),))
        with pytest.raises(InvalidArgument, match="no factor"):
            rows.checked()
