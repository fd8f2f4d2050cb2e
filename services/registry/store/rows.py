"""How does a row become a domain object, and a domain object a row?"""

from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from perennial.package import FileEntry, Signature

from services.registry.domain.facts import AliasPointed, StageMoved
from services.registry.domain.model import Model
from services.registry.domain.number import Number, Recipe
from services.registry.domain.version import Actor, Lineage, ModelVersion, Stage

MODEL = """
select m.*, (
    select coalesce(jsonb_object_agg(a.alias, v.major || '.' || v.minor || '.' || v.patch), '{}')
    from aliases a join versions v on v.id = a.version_id where a.model = m.name
) as aliases
from models m
"""
VERSION = """
select v.*, m.approval_required,
    array(select a.alias from aliases a where a.version_id = v.id order by a.alias) as aliases
from versions v join models m on m.name = v.model
"""
BASE = f"""
select b.*,
    (select max(major) from versions where model = b.model) as most_major,
    (select max(minor) from versions where model = b.model and major = b.major) as most_minor,
    (select max(patch) from versions where model = b.model and major = b.major and minor = b.minor) as most_patch
from ({VERSION} where v.model = $1 and v.major = $2 and v.minor = $3 and v.patch = $4) b
"""  # noqa: S608 made of constants
"""A version with the greatest numbers beside it."""
NEW_VERSION = """
with counted as (update models set latest = $22, aggregate_version = $23 where name = $1),
made as (insert into versions (
    model, major, minor, patch, stage, framework, algorithm, signature, parameters, metrics, tags, description, author,
    lineage, files, artifact_digest, created_at, request_caller, request_id, request_digest
) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $19, $20, $21)
on conflict do nothing returning id)
insert into version_words select id, $18 from made returning version_id
"""


def actor_from(row: dict[str, Any]) -> Actor:
    """An actor kept as JSON."""
    return Actor(row["name"], row["kind"], tuple(row["roles"]))


def model_from(row: Any) -> Model:
    """A row of ``MODEL``."""
    return Model(
        row["name"], row["created_at"], row["description"], row["tags"], row["approval_required"], row["latest"],
        row["aliases"], row["aggregate_version"],
    )  # fmt: skip


def version_from(row: Any) -> ModelVersion:
    """A row of ``VERSION``."""
    return ModelVersion(
        model=row["model"],
        number=Number(row["major"], row["minor"], row["patch"]),
        recipe=Recipe(row["framework"], row["algorithm"], _signature(orjson.dumps(row["signature"])), row["parameters"]),
        files=tuple(FileEntry(**entry) for entry in row["files"]),
        artifact_digest=row["artifact_digest"],
        author=actor_from(row["author"]),
        created_at=row["created_at"],
        stage=Stage(row["stage"]),
        metrics={name: float("nan") if value is None else value for name, value in row["metrics"].items()},
        tags=row["tags"],
        description=row["description"],
        lineage=_lineage(row["lineage"]),
        approved=row["approved"],
        approval_required=row["approval_required"],
        was_in_production=row["was_in_production"],
        aliases=tuple(row["aliases"]),
    )


@lru_cache(maxsize=4096)
def _signature(text: bytes) -> Signature:
    """Versions of a model share their signature, so it is read once."""
    return Signature.from_json(orjson.loads(text))


def _lineage(kept: dict[str, Any]) -> Lineage:
    time = kept.get("event_time")
    return Lineage(**{**kept, "event_time": datetime.fromisoformat(time) if time else None})


def version_values(version: ModelVersion) -> list[Any]:
    """The values of ``NEW_VERSION`` up to ``words``; a metric that is NaN is kept as null."""
    number, recipe = version.number, version.recipe
    return [
        version.model, number.major, number.minor, number.patch, str(version.stage), recipe.framework, recipe.algorithm,
        recipe.signature.to_json(), dict(recipe.parameters), dict(version.metrics), dict(version.tags), version.description,
        asdict(version.author), asdict(version.lineage), [asdict(entry) for entry in version.files],
        version.artifact_digest, version.created_at, f"{version.model}\n{version.description}".lower(),
    ]  # fmt: skip


def numbers_beside(row: Any) -> tuple[Number, Number, Number]:
    """The greatest numbers of a row of ``BASE``: of the model, of its major, of its minor."""
    major, minor = row["major"], row["minor"]
    return Number(row["most_major"], 0, 0), Number(major, row["most_minor"], 0), Number(major, minor, row["most_patch"])


def alias_move_from(row: Any) -> AliasPointed:
    """A row of alias_history."""
    before, after = (Number.parsed(row[name]) if row[name] else None for name in ("from_version", "to_version"))
    return AliasPointed(row["model"], row["alias"], before, after, actor_from(row["actor"]), row["request_id"])


def stage_move_from(row: Any, version: ModelVersion) -> StageMoved:
    """A row of stage_history."""
    stages = Stage(row["from_stage"]), Stage(row["to_stage"])
    return StageMoved(version.model, version.number, *stages, actor_from(row["actor"]))
