"""Requests that the tests send: two views, rows, reads and joins, in plain words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from perennial.frames import Table, Text, encode, encode_text
from perennial.v1 import common_pb2
from perennial.v1 import feature_pb2 as pb

MINUTE, HOUR = 60_000_000, 3_600_000_000
T0 = 1_357_000_000_000_000 // HOUR * HOUR


def plain(value: object) -> object:
    """A value of a Parquet file, NaN as None."""
    return None if isinstance(value, float) and math.isnan(value) else value


def span(us: int) -> Duration:
    """A duration of microseconds."""
    found = Duration()
    found.FromMicroseconds(us)
    return found


def column(name: str, kind: str = "NUMBER") -> common_pb2.Column:
    """A source column."""
    return common_pb2.Column(name=name, type=common_pb2.ColumnType.Value(f"COLUMN_TYPE_{kind}"))


def a_feature(name: str, how: str, source: str = "", window: int = 0, divisor: str = "") -> pb.Feature:
    """A feature of a view."""
    aggregation = pb.Aggregation.Value(f"AGGREGATION_{how.upper()}")
    return pb.Feature(name=name, aggregation=aggregation, column=source, window=span(window) if window else None, divisor=divisor)


def landings(name: str, **changes: Any) -> pb.FeatureView:
    """A view of landings by airport with windows over minutes and hours, and the last row."""
    view = pb.FeatureView(
        name=name, entity="airport", key_column="dest",
        columns=[column("air_time"), column("distance"), column("carrier", "TEXT")],
        features=[
            a_feature("landings_2h", "count", window=2 * HOUR),
            a_feature("mean_24h", "mean", "air_time", 24 * HOUR),
            a_feature("pace_24h", "ratio", "air_time", 24 * HOUR, "distance"),
            a_feature("least_7d", "min", "air_time", 7 * 24 * HOUR),
            a_feature("sum_90m", "sum", "air_time", 90 * MINUTE),
            a_feature("last_air_time", "last", "air_time"),
            a_feature("last_carrier", "last", "carrier"),
        ],
        constraints=[pb.Constraint(column="air_time", min=0, max=2000), pb.Constraint(column="distance", required=True)],
    )  # fmt: skip
    for field, value in changes.items():
        view.ClearField(field)  # type: ignore[arg-type]
        view.MergeFrom(pb.FeatureView(**{field: value}))
    return view


def rows_of(view: str, rows: Sequence[Mapping[str, Any]]) -> pb.ViewRows:
    """Rows as dicts: dest, event, known and the columns."""
    names = [name for name in rows[0] if name not in ("event", "known")]
    table = Table.of({name: [row[name] for row in rows] for name in names})
    return pb.ViewRows(
        view=view, rows=encode(table), event_times_us=[row["event"] for row in rows],
        known_at_us=[row.get("known", row["event"]) for row in rows],
    )  # fmt: skip


def landing(
    dest: str, event: int, air_time: float | None, distance: float = 100.0, carrier: str | None = "UA", known: int = 0
) -> dict[str, Any]:
    """One landing."""
    return {"dest": dest, "air_time": air_time, "distance": distance, "carrier": carrier, "event": event, "known": known or event}


def selection(
    view: str, keys: Sequence[str | None], features: Sequence[str] = (), names: Sequence[str] = ()
) -> pb.FeatureSelection:
    """Features for these keys."""
    return pb.FeatureSelection(view=view, keys=encode_text(Text.of(keys)), features=features, names=names)


def training(
    header: pb.TrainingSetHeader, table: Table, times: Sequence[int], entities: Sequence[str] = ()
) -> list[pb.BuildTrainingSetRequest]:
    """The stream of a training set, rows in two messages."""
    half = table.rows // 2
    parts = [
        (table.slice(0, half), times[:half], entities[:half]),
        (table.slice(half, table.rows), times[half:], entities[half:]),
    ]
    return [
        pb.BuildTrainingSetRequest(header=header),
        *(
            pb.BuildTrainingSetRequest(rows=pb.TrainingRows(rows=encode(part), event_times_us=when, entity_keys=who))
            for part, when, who in parts
            if part.rows
        ),
    ]
