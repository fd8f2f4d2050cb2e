"""How do two versions differ?"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.registry.domain.version import ModelVersion


def metrics_diff(left: ModelVersion, right: ModelVersion) -> dict[str, float]:
    """Right minus left for every metric both have."""
    return {name: right.metrics[name] - value for name, value in left.metrics.items() if name in right.metrics}


def changes(left: ModelVersion, right: ModelVersion) -> dict[str, str]:
    """Everything but metrics that differs, by field, as ``left -> right``; what one side lacks is ``(none)``."""
    fields = (dict(_fields(left)), dict(_fields(right)))
    names = dict.fromkeys([*fields[0], *fields[1]])
    pairs = {name: tuple(side.get(name, "(none)") for side in fields) for name in names}
    return {name: f"{one} -> {other}" for name, (one, other) in pairs.items() if one != other}


def _fields(version: ModelVersion) -> Iterator[tuple[str, str]]:
    yield "stage", str(version.stage)
    yield "framework", version.recipe.framework
    yield "algorithm", version.recipe.algorithm
    yield "description", version.description
    yield "author", version.author.name
    yield "approval", str(version.approval)
    yield "artifact_digest", version.artifact_digest
    yield "signature.task", str(version.signature.task)
    yield "signature.classes", ", ".join(version.signature.classes)
    for place, column in enumerate(version.signature.columns):
        nullable = "nullable" if column.nullable else "required"
        yield f"signature.columns.{column.name}", f"{place}: {column.type} {nullable} pii={column.pii}"
    yield from _mapped("parameters", version.parameters)
    yield from _mapped("tags", version.tags)
    yield from ((f"lineage.{name}", str(getattr(version.lineage, name) or "")) for name in version.lineage.__slots__)
    yield from ((f"files.{entry.name}", f"{entry.size} bytes {entry.sha256}") for entry in version.files)


def _mapped(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        yield f"{prefix}.{name}", value if isinstance(value, str) else json.dumps(value, sort_keys=True)
