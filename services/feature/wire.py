"""Messages to what they mean, and back."""

from collections.abc import Iterable

import numpy as np
from google.protobuf.duration_pb2 import Duration
from perennial.clock import from_us
from perennial.errors import InvalidArgument
from perennial.frames import decode, decode_text
from perennial.v1 import common_pb2
from perennial.v1 import feature_pb2 as pb
from perennial.v1.events_pb2 import FeatureRows

from services.feature.domain.facts import Asked, Sent, checked_times
from services.feature.domain.training import Header, Join, Labelled
from services.feature.domain.views import (
    Aggregation,
    Constraint,
    Feature,
    FeatureView,
    Kind,
    SourceColumn,
    StoredView,
    checked,
)  # fmt: skip

_AGGREGATIONS = {
    pb.AGGREGATION_LAST: Aggregation.LAST,
    pb.AGGREGATION_COUNT: Aggregation.COUNT,
    pb.AGGREGATION_SUM: Aggregation.SUM,
    pb.AGGREGATION_MEAN: Aggregation.MEAN,
    pb.AGGREGATION_MIN: Aggregation.MIN,
    pb.AGGREGATION_MAX: Aggregation.MAX,
    pb.AGGREGATION_RATIO: Aggregation.RATIO,
}
_AGGREGATIONS_TO = {ours: wire for wire, ours in _AGGREGATIONS.items()}
_KINDS = {common_pb2.COLUMN_TYPE_NUMBER: Kind.NUMBER, common_pb2.COLUMN_TYPE_TEXT: Kind.TEXT}
_KINDS_TO = {ours: wire for wire, ours in _KINDS.items()}


def view_from(message: pb.FeatureView) -> FeatureView:
    """The view of a message. InvalidArgument when it is one that cannot be computed."""
    where = f"view {message.name!r}"
    if wrong := [column.name for column in message.columns if column.type not in _KINDS]:
        raise InvalidArgument(f"{where}: column {wrong[0]!r} needs the type number or text")
    if wrong := [feature.name for feature in message.features if feature.aggregation not in _AGGREGATIONS]:
        raise InvalidArgument(f"{where}: feature {wrong[0]!r} needs an aggregation")
    return checked(
        FeatureView(
            name=message.name, entity=message.entity, key_column=message.key_column,
            columns=tuple(SourceColumn(column.name, _KINDS[column.type]) for column in message.columns),
            features=tuple(_feature_from(feature) for feature in message.features),
            ttl_us=_us(message.ttl),
            constraints=tuple(_constraint_from(rule) for rule in message.constraints),
            description=message.description, owner=message.owner, tags=tuple(sorted(message.tags.items())),
            online=message.online if message.HasField("online") else True,
            offline=message.offline if message.HasField("offline") else True,
        )
    )  # fmt: skip


def view_to(stored: StoredView) -> pb.FeatureView:
    """The message of a stored view."""
    message = definition_to(stored.view)
    message.version = stored.version
    message.created_at.FromDatetime(from_us(stored.created_us))
    return message


def definition_to(view: FeatureView) -> pb.FeatureView:
    """The message of a view as declared."""
    message = pb.FeatureView(
        name=view.name, entity=view.entity, key_column=view.key_column,
        columns=[common_pb2.Column(name=column.name, type=_KINDS_TO[column.kind]) for column in view.columns],
        features=[_feature_to(feature) for feature in view.features],
        constraints=[_constraint_to(rule) for rule in view.constraints],
        description=view.description, owner=view.owner, tags=dict(view.tags), online=view.online, offline=view.offline,
    )  # fmt: skip
    if view.ttl_us:
        message.ttl.FromMicroseconds(view.ttl_us)
    return message


def columns_to(numbers: Iterable[str], texts: Iterable[str]) -> list[common_pb2.Column]:
    """Columns of a table, nulls allowed."""
    kinds = [(name, Kind.NUMBER) for name in numbers] + [(name, Kind.TEXT) for name in texts]
    return [common_pb2.Column(name=name, type=_KINDS_TO[kind], nullable=True) for name, kind in kinds]


def _feature_from(message: pb.Feature) -> Feature:
    return Feature(
        message.name,
        _AGGREGATIONS[message.aggregation],
        message.column,
        _us(message.window),
        message.divisor,
        message.description,
    )


def _feature_to(feature: Feature) -> pb.Feature:
    message = pb.Feature(
        name=feature.name, aggregation=_AGGREGATIONS_TO[feature.aggregation], column=feature.column,
        divisor=feature.divisor, description=feature.description,
    )  # fmt: skip
    if feature.window_us:
        message.window.FromMicroseconds(feature.window_us)
    return message


def _constraint_from(message: pb.Constraint) -> Constraint:
    least = message.min if message.HasField("min") else None
    greatest = message.max if message.HasField("max") else None
    return Constraint(message.column, least, greatest, message.required)


def _constraint_to(rule: Constraint) -> pb.Constraint:
    return pb.Constraint(column=rule.column, min=rule.minimum, max=rule.maximum, required=rule.required)


def _us(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + duration.nanos // 1000


def join_from(message: pb.FeatureJoin) -> Join:
    """The join of a message."""
    return Join(message.view, message.key_column, tuple(message.features), tuple(message.names))


def join_to(join: Join) -> pb.FeatureJoin:
    """The message of a join."""
    return pb.FeatureJoin(view=join.view, key_column=join.key_column, features=join.features, names=join.names)


def header_from(message: pb.TrainingSetHeader) -> Header:
    """The header of a message."""
    known_by = message.known_by.ToMicroseconds() if message.HasField("known_by") else None
    return Header(message.name, tuple(map(join_from, message.joins)), tuple(message.label_columns), known_by)


def labelled_from(message: pb.TrainingRows) -> Labelled:
    """The rows of a message. InvalidArgument when times or entity keys do not fit them."""
    table = decode(message.rows)
    times = checked_times(message.event_times_us)
    if len(times) != table.rows:
        raise InvalidArgument(f"{table.rows} rows need {table.rows} event times, not {len(times)}")
    if len(message.entity_keys) not in (0, table.rows):
        raise InvalidArgument(f"{table.rows} rows need {table.rows} entity keys or none, not {len(message.entity_keys)}")
    entities = np.array([*(message.entity_keys or [""] * table.rows), None], dtype=object)[:-1]
    return Labelled(table, times, entities)


def sent_from(message: pb.ViewRows | FeatureRows, view: str) -> Sent:
    """The rows of a message for ``view``."""
    return Sent(view, decode(message.rows), message.event_times_us, message.known_at_us)


def asked_from(message: pb.FeatureSelection) -> Asked:
    """The selection of a message. InvalidArgument when the keys' codes do not fit."""
    keys = decode_text(message.keys, len(message.keys.codes) // 4)
    return Asked(message.view, keys, message.features, message.names)
