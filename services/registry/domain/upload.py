"""What must hold of an upload before anything of it is kept?"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from perennial.errors import InvalidArgument
from perennial.package import MANIFEST, FileEntry, Manifest, artifact_digest

from services.registry.domain.number import FIRST, Number, Recipe
from services.registry.domain.version import Actor, Lineage, ModelVersion

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a client says of a version before it sends the files."""

    name: str
    files: tuple[FileEntry, ...]
    version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    lineage: Lineage = field(default_factory=Lineage)
    request_id: str = ""
    first_alias: str = ""

    @property
    def wanted(self) -> Number | None:
        """The explicit number, if one is given; InvalidArgument when it is none."""
        return Number.parsed(self.version) if self.version else None

    @property
    def artifact_digest(self) -> str:
        """Names the artifact the files make."""
        return artifact_digest(self.files)

    def check(self, *, most_files: int, most_bytes: int) -> None:
        """InvalidArgument without a manifest, with a name twice, or past the limits."""
        names = [entry.name for entry in self.files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidArgument(f"files: {', '.join(twice)} is named twice")
        if MANIFEST not in names:
            raise InvalidArgument(f"files: {MANIFEST} is missing")
        if len(names) > most_files:
            raise InvalidArgument(f"files: {len(names)} are more than {most_files}")
        if (total := sum(entry.size for entry in self.files)) > most_bytes:
            raise InvalidArgument(f"files: {total} bytes together are more than {most_bytes}")
        _ = self.wanted

    def check_manifest(self, manifest: Manifest) -> None:
        """InvalidArgument when the manifest names other files than the header, or other digests."""
        said = {entry.name: entry for entry in self.files if entry.name != MANIFEST}
        listed = {entry.name: entry for entry in manifest.files}
        for name in sorted(said.keys() ^ listed.keys()):
            raise InvalidArgument(f"{name} is in {'the header' if name in said else MANIFEST} only")
        for name, entry in listed.items():
            if entry != said[name]:
                raise InvalidArgument(f"{name}: {MANIFEST} and the header disagree on its sha256 or size")

    def draft(self, manifest: Manifest, *, author: Actor, at: datetime) -> ModelVersion:
        """The version to be, without its number; what the header leaves out the manifest may say."""
        told = Lineage(
            job_id=manifest.job, training_set=manifest.training_set, parent=manifest.parent, code_version=manifest.code_version
        )
        missing = {name: getattr(told, name) for name in Lineage.__slots__ if not getattr(self.lineage, name)}
        recipe = Recipe(
            manifest.framework, manifest.algorithm, manifest.signature, dict(self.parameters) or dict(manifest.parameters)
        )
        return ModelVersion(
            model=self.name,
            number=FIRST,
            recipe=recipe,
            files=self.files,
            artifact_digest=self.artifact_digest,
            author=author,
            created_at=at,
            metrics=dict(self.metrics) or dict(manifest.metrics),
            tags=self.tags,
            description=self.description,
            lineage=replace(self.lineage, **missing),
        )
