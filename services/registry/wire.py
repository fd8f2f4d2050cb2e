"""How do models and versions look on the wire? Pure functions, both ways."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from perennial.errors import InvalidArgument
from perennial.package import FileEntry, Signature
from perennial.package import checked_name as checked_file_name
from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2 as pb

from services.registry.domain.facts import AliasPointed, Chain, StageMoved
from services.registry.domain.key import ApiKey
from services.registry.domain.model import Model
from services.registry.domain.names import checked_file_kind, checked_name, checked_text
from services.registry.domain.upload import Header
from services.registry.domain.version import Actor, Lineage, ModelVersion, Stage

_STAGES: "dict[Stage, pb.Stage.ValueType]" = {
    Stage.DEVELOPMENT: pb.STAGE_DEVELOPMENT,
    Stage.STAGING: pb.STAGE_STAGING,
    Stage.PRODUCTION: pb.STAGE_PRODUCTION,
    Stage.ARCHIVED: pb.STAGE_ARCHIVED,
}
_LINEAGE = tuple(name for name in Lineage.__slots__ if name != "event_time")
_MOST_ENTRIES = 1000


def key(text: str) -> str:
    """A text that names something or is looked for: as it is; InvalidArgument when nothing stored could be called so."""
    return checked_text(text, "the request")


def stage_to(stage: Stage) -> "pb.Stage.ValueType":
    """The wire's stage."""
    return _STAGES[stage]


def stage_from(value: int) -> Stage:
    """The stage of the wire's; InvalidArgument when none is given."""
    for stage, number in _STAGES.items():
        if number == value:
            return stage
    raise InvalidArgument(f"stage {value}: use development, staging, production or archived")


def time_to(time: datetime) -> Timestamp:
    """The wire's time."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def time_from(stamp: Timestamp, what: str) -> datetime:
    """The aware UTC time; InvalidArgument outside of years 1 to 9999."""
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{what}: not a time between the years 1 and 9999") from None


def actor_to(actor: Actor) -> common.Actor:
    """The wire's actor."""
    return common.Actor(name=actor.name, kind=actor.kind, roles=actor.roles)


def actor_from(message: common.Actor) -> Actor:
    """The actor of the wire's."""
    return Actor(message.name, message.kind, tuple(message.roles))


def lineage_to(lineage: Lineage) -> pb.Lineage:
    """The wire's lineage."""
    texts: dict[str, str] = {name: getattr(lineage, name) for name in _LINEAGE}
    return pb.Lineage(**texts, event_time=time_to(lineage.event_time) if lineage.event_time else None)


def lineage_from(message: pb.Lineage) -> Lineage:
    """The lineage of the wire's."""
    texts = {name: checked_text(getattr(message, name), f"lineage.{name}") for name in _LINEAGE}
    time = time_from(message.event_time, "lineage.event_time") if message.HasField("event_time") else None
    return Lineage(**texts, event_time=time)


def chain_from(message: pb.SetAliasRequest) -> Chain:
    """Where a move of an alias stands in a chain."""
    time = time_from(message.event_time, "event_time") if message.HasField("event_time") else None
    return Chain(key(message.correlation_id), key(message.causation_id), time)


def struct_to(values: Mapping[str, Any]) -> Struct:
    """The wire's form of plain values."""
    made = Struct()
    made.update(values)
    return made


def struct_from(message: Struct, what: str) -> dict[str, Any]:
    """Plain values; InvalidArgument for what JSON cannot hold (infinity, NaN, NUL characters)."""
    values: dict[str, Any] = {name: _plain(value, f"{what}.{name}") for name, value in message.items()}
    return {checked_text(name, what): value for name, value in values.items()}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return checked_text(value, where)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(f"{where}: {value} is not a finite number")
    if isinstance(value, Struct):
        return struct_from(value, where)
    if value is None or isinstance(value, bool | float):
        return value
    return [_plain(item, where) for item in value]


def tags_from(values: Mapping[str, str]) -> dict[str, str]:
    """Free tags; InvalidArgument when one is too long or there are too many."""
    if len(values) > _MOST_ENTRIES:
        raise InvalidArgument(f"tags: {len(values)} are more than {_MOST_ENTRIES}")
    return {checked_text(name, "tags"): checked_text(value, f"tags.{name}") for name, value in values.items()}


def metrics_from(values: Mapping[str, float]) -> dict[str, float]:
    """Figures by name; NaN stands for one that has no value, infinity is refused."""
    for name, value in values.items():
        checked_text(name, "metrics")
        if math.isinf(value):
            raise InvalidArgument(f"metrics.{name}: infinity is not a figure")
    return dict(values)


def file_from(message: common.FileEntry) -> FileEntry:
    """A file's entry; InvalidArgument when its name could be a path, or its sha256 is none."""
    name = checked_file_kind(checked_file_name(message.name))
    if len(message.sha256) != 64 or set(message.sha256) - set("0123456789abcdef"):
        raise InvalidArgument(f"{name}: sha256 must be 64 lower-case hex digits")
    return FileEntry(name, message.sha256, message.size)


def header_from(message: pb.RegisterHeader) -> Header:
    """What a client says of a version; InvalidArgument for names, digests, tags and figures that are none."""
    return Header(
        name=checked_name(message.name, "model"),
        version=message.version,
        files=tuple(file_from(entry) for entry in message.files),
        metrics=metrics_from(message.metrics),
        parameters=struct_from(message.parameters, "parameters"),
        tags=tags_from(message.tags),
        description=checked_text(message.description, "description"),
        lineage=lineage_from(message.lineage),
        request_id=checked_text(message.request_id, "request_id"),
        first_alias=checked_name(message.first_alias, "first_alias") if message.first_alias else "",
    )


def model_to(model: Model) -> pb.Model:
    """The wire's model."""
    return pb.Model(
        name=model.name,
        description=model.description,
        tags=model.tags,
        approval_required=model.approval_required,
        latest_version=model.latest,
        aliases=model.aliases,
        created_at=time_to(model.created_at),
        aggregate_version=model.aggregate_version,
    )


def model_version_to(version: ModelVersion) -> pb.ModelVersion:
    """The wire's version."""
    return pb.ModelVersion(
        name=version.model,
        version=str(version.number),
        stage=stage_to(version.stage),
        signature=_signature_to(version.signature.digest, version.signature),
        framework=version.recipe.framework,
        algorithm=version.recipe.algorithm,
        metrics=version.metrics,
        parameters=struct_to(version.parameters),
        tags=version.tags,
        description=version.description,
        author=actor_to(version.author),
        lineage=lineage_to(version.lineage),
        files=[common.FileEntry(name=f.name, sha256=f.sha256, size=f.size) for f in version.files],
        artifact_digest=version.artifact_digest,
        artifact_prefix=artifact_prefix(version.artifact_digest),
        created_at=time_to(version.created_at),
        approval=str(version.approval),
        aliases=version.aliases,
    )


_SIGNATURES: dict[str, common.Signature] = {}
_MOST_SIGNATURES = 4096


def _signature_to(digest: str, signature: Signature) -> common.Signature:
    """The wire's signature; made once a digest, because a page of versions has few of them."""
    if digest not in _SIGNATURES:
        if len(_SIGNATURES) >= _MOST_SIGNATURES:
            _SIGNATURES.clear()
        _SIGNATURES[digest] = signature.to_proto()
    return _SIGNATURES[digest]


def artifact_prefix(digest: str) -> str:
    """Where an artifact's files are among the objects: each at ``<prefix>/<name>``."""
    return f"models/{digest}"


def alias_change_to(fact: AliasPointed, at: datetime) -> pb.AliasChange:
    """A move of an alias."""
    return pb.AliasChange(
        alias=fact.alias,
        from_version=str(fact.before or ""),
        to_version=str(fact.after or ""),
        actor=actor_to(fact.actor),
        time=time_to(at),
        request_id=fact.request_id,
    )


def stage_change_to(fact: StageMoved, at: datetime) -> pb.StageChange:
    """A move of a stage."""
    return pb.StageChange(
        from_stage=stage_to(fact.before), to_stage=stage_to(fact.after), actor=actor_to(fact.actor), time=time_to(at)
    )


def api_key_to(key: ApiKey) -> pb.ApiKey:
    """The wire's key; never its text."""
    return pb.ApiKey(
        name=key.name,
        roles=key.roles,
        digest=key.digest,
        created_at=time_to(key.created_at),
        expires_at=time_to(key.expires_at) if key.expires_at else None,
        revoked=key.revoked,
    )


def data_of(message: Any) -> dict[str, Any]:
    """An event's message as plain values: proto field names, otherwise proto3 JSON; NUL characters are replaced."""
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return {name: _without_nul(value) for name, value in found.items()}


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value
