"""How does a model package lie in a folder, and is what lies there what was written?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from perennial.errors import DataLoss, InvalidArgument, NotFound
from perennial.package.manifest import MANIFEST, FileEntry, Manifest, artifact_digest, checked_name


@dataclass(frozen=True)
class ModelPackage:
    """A manifest and the files it names, all verified: whoever holds one may open them."""

    manifest: Manifest
    contents: Mapping[str, bytes]

    @classmethod
    def of(cls, manifest: Manifest, contents: Mapping[str, bytes]) -> ModelPackage:
        """The package of these files; the manifest's entries are made from them."""
        entries = tuple(FileEntry.of(name, contents[name]) for name in sorted(contents))
        return cls(replace(manifest, files=entries), dict(contents))

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """Every file, ``manifest.json`` first."""
        return (FileEntry.of(MANIFEST, self.manifest.encoded()), *self.manifest.files)

    @property
    def digest(self) -> str:
        """Names the artifact."""
        return artifact_digest(self.entries)

    def data(self, name: str) -> bytes:
        """The bytes of one of ``entries``."""
        return self.manifest.encoded() if name == MANIFEST else self.contents[name]

    def write(self, folder: Path) -> None:
        """Write every file into ``folder``, which is made; the manifest comes last, so a folder with one is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.contents.items():
            (folder / checked_name(name)).write_bytes(data)
        (folder / MANIFEST).write_bytes(self.manifest.encoded())

    @classmethod
    def read(cls, folder: Path) -> ModelPackage:
        """The package in ``folder``: NotFound without a manifest, DataLoss when a file is missing or its digest is another's."""
        if not (folder / MANIFEST).is_file():
            raise NotFound(f"{folder.name}: no {MANIFEST}; not a model package")
        manifest = Manifest.decoded((folder / MANIFEST).read_bytes())
        contents = {entry.name: _verified(folder, entry) for entry in manifest.files}
        if unknown := sorted({p.name for p in folder.iterdir()} - set(contents) - {MANIFEST}):
            raise InvalidArgument(f"{folder.name}: {', '.join(unknown)} is not in {MANIFEST}")
        return cls(manifest, contents)


def _verified(folder: Path, entry: FileEntry) -> bytes:
    path = folder / checked_name(entry.name)
    if path.is_symlink() or not path.is_file():
        raise DataLoss(f"{folder.name}: {entry.name} is missing")
    if path.stat().st_size != entry.size:
        raise DataLoss(f"{folder.name}: {entry.name} has {path.stat().st_size} bytes, not {entry.size}")
    data = path.read_bytes()
    if (found := FileEntry.of(entry.name, data)) != entry:
        raise DataLoss(f"{folder.name}: {entry.name} has sha256 {found.sha256}, not {entry.sha256}")
    return data
