"""Which features does the demo declare, and which of a model's columns come with the request?

The feature service evaluates them; nothing here computes a rolling figure.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from perennial.v1.common_pb2 import COLUMN_TYPE_NUMBER, Column
from perennial.v1.feature_pb2 import (
    AGGREGATION_COUNT,
    AGGREGATION_LAST,
    AGGREGATION_MEAN,
    AGGREGATION_RATIO,
    Aggregation,
    Feature,
    FeatureJoin,
    FeatureView,
)
from perennial.v1.serving_pb2 import FeatureBinding

HOUR_S = 3600
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
# What is known of a flight when it leaves the gate and comes with the request itself.
REQUEST_NUMBERS = ("distance", "hour", "weekday", "dep_delay")
REQUEST_TEXTS = ("origin", "dest", "carrier")


def _feature(name: str, aggregation: Aggregation.ValueType, column: str, hours: float, divisor: str = "") -> Feature:
    window = Duration(seconds=int(hours * HOUR_S)) if hours else None
    return Feature(name=name, aggregation=aggregation, column=column, window=window, divisor=divisor)


def _view(name: str, entity: str, key: str, columns: Iterable[str], features: list[Feature], description: str) -> FeatureView:
    numbers = [Column(name=column, type=COLUMN_TYPE_NUMBER, nullable=True) for column in columns]
    return FeatureView(name=name, entity=entity, key_column=key, columns=numbers, features=features, description=description)


VIEWS = (
    _view(
        "weather", "airport", "origin", WEATHER,
        [_feature(column, AGGREGATION_LAST, column, 6) for column in WEATHER],
        "Last hourly observation at the airport, at most six hours old",
    ),
    _view(
        "arrivals-by-destination", "airport", "dest", ("air_time",),
        [
            _feature("dest_air_time_6h", AGGREGATION_MEAN, "air_time", 6),
            _feature("dest_air_time_12h", AGGREGATION_MEAN, "air_time", 12),
            _feature("dest_air_time_24h", AGGREGATION_MEAN, "air_time", 24),
            _feature("dest_air_time_7d", AGGREGATION_MEAN, "air_time", 7 * 24),
            _feature("dest_flights_7d", AGGREGATION_COUNT, "air_time", 7 * 24),
        ],
        "Airborne minutes of flights that landed there",
    ),
    _view(
        "pace-by-origin", "airport", "origin", ("air_time", "miles"),
        [_feature("origin_pace_6h", AGGREGATION_RATIO, "air_time", 6, "miles")],
        "Minutes a mile of flights that came from there and landed",
    ),
    _view(
        "gain-by-carrier", "carrier", "carrier", ("gain",),
        [_feature("carrier_gain_24h", AGGREGATION_MEAN, "gain", 24)],
        "Minutes lost or won between push-back and gate",
    ),
    _view(
        "departures-by-origin", "airport", "origin", ("dep_delay",),
        [_feature("origin_delay_2h", AGGREGATION_MEAN, "dep_delay", 2)],
        "Delay of the flights that just left",
    ),
    _view(
        "planes", "plane", "tailnum", ("built", "seats"),
        [_feature(column, AGGREGATION_LAST, column, 0) for column in ("built", "seats")],
        "What the register says of the plane",
    ),
)  # fmt: skip


def bindings() -> list[FeatureBinding]:
    """The views a deployment reads, each by the column of the request that holds its key."""
    return [
        FeatureBinding(view=view.name, key_column=view.key_column, features=[feature.name for feature in view.features])
        for view in VIEWS
    ]


def joins() -> list[FeatureJoin]:
    """The same views, joined point in time for a training set."""
    return [
        FeatureJoin(view=view.name, key_column=view.key_column, features=[feature.name for feature in view.features])
        for view in VIEWS
    ]


def model_columns() -> list[str]:
    """The inputs of both models, in order."""
    features = [feature.name for view in VIEWS for feature in view.features]
    return [*REQUEST_NUMBERS, *features, *REQUEST_TEXTS]
