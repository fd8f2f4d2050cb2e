"""What is in a version's artifact, and where does it come from?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from perennial.errors import InvalidArgument
from perennial.package.signature import Signature

MANIFEST = "manifest.json"
MODEL = "model.onnx"
REFERENCE = "reference.bin"
BACKGROUND = "background.parquet"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of an artifact: its name (letters, digits, ``._-``), sha256 as hex, and length in bytes."""

    name: str
    sha256: str
    size: int

    @classmethod
    def of(cls, name: str, data: bytes) -> FileEntry:
        """The entry of these bytes; InvalidArgument when the name could be a path."""
        return cls(checked_name(name), hashlib.sha256(data).hexdigest(), len(data))


def checked_name(name: str) -> str:
    """A file's name, if it is one; InvalidArgument otherwise: names never become paths."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"file name {name!r}: only letters, digits, dot, dash and underscore, not starting with a dot")
    return name


def artifact_digest(files: Iterable[FileEntry]) -> str:
    """sha256 over the lines ``<name> <sha256>`` of every file (manifest.json included), sorted by name; names the artifact."""
    lines = sorted(f"{checked_name(f.name)} {f.sha256}\n" for f in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """Both models' outputs over the same rows: the greatest difference, held against ``tolerance`` times the outputs' scale."""

    rows: int
    largest_difference: float
    tolerance: float
    scale: float = 1.0


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``: what the artifact is and where it comes from. ``files`` are all others; importances sum to 1.

    Its rows have event times in [data_start_us, data_end_us).
    """

    framework: str
    algorithm: str
    signature: Signature
    files: tuple[FileEntry, ...] = ()
    model: str = ""
    target: str = ""
    training_set: str = ""
    parent: str = ""
    job: str = ""
    code_version: str = ""
    seed: int = 0
    data_start_us: int = 0
    data_end_us: int = 0
    export_check: ExportCheck | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    importances: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The bytes of ``manifest.json``; the same manifest always gives the same bytes."""
        data = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in _PLAIN},
            "signature": {**self.signature.to_json(), "digest": self.signature.digest},
            "files": [asdict(entry) for entry in self.files],
            "export_check": asdict(self.export_check) if self.export_check else None,
        }
        return json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Manifest:
        """The manifest of the bytes of ``manifest.json``; InvalidArgument when they are none."""
        try:
            found = json.loads(data)
            if found["format"] != FORMAT:
                raise InvalidArgument(f"{MANIFEST}: format {found['format']} is not {FORMAT}")
            files = tuple(_entry(entry) for entry in found["files"])
            check = found.get("export_check")
            return cls(
                **{name: found[name] for name in _PLAIN if name in found},
                signature=Signature.from_json(found["signature"]),
                files=files,
                export_check=ExportCheck(**check) if check else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"{MANIFEST}: not a manifest: {error!r}") from None


_PLAIN = (
    "framework", "algorithm", "model", "target", "training_set", "parent", "job", "code_version", "seed",
    "data_start_us", "data_end_us",
    "parameters", "importances", "metrics",
)  # fmt: skip


def _entry(data: Mapping[str, Any]) -> FileEntry:
    entry = FileEntry(checked_name(data["name"]), str(data["sha256"]), int(data["size"]))
    if not _DIGEST.fullmatch(entry.sha256) or entry.size < 0:
        raise InvalidArgument(f"{MANIFEST}: {entry.name} has no sha256 or no size")
    return entry


def parse(data: bytes) -> Manifest:
    """The manifest of the bytes of ``manifest.json``; InvalidArgument when they are none. Needs nothing heavier than numpy."""
    return Manifest.decoded(data)
