"""Small model packages, made without any modelling library."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perennial.package import Column, ColumnType, FileEntry, Manifest, ModelPackage, Signature
from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2 as pb

ONNX = b"\x08\x0a\x3a\x06\x12\x04tiny"
"""The least that is an ONNX model: an IR version and a graph with a name."""
SIGNATURE = Signature.of([Column("miles", ColumnType.NUMBER, nullable=False), Column("carrier", ColumnType.TEXT)])


def package(
    *, signature: Signature = SIGNATURE, algorithm: str = "lightgbm", files: Mapping[str, bytes] | None = None, **manifest: Any
) -> ModelPackage:
    """A package of a tiny graph and further files."""
    made = Manifest(framework="lightgbm", algorithm=algorithm, signature=signature, **manifest)
    return ModelPackage.of(made, {"model.onnx": ONNX, **(files or {})})


def entries_of(made: ModelPackage) -> list[common.FileEntry]:
    """The header's files."""
    return [common.FileEntry(name=f.name, sha256=f.sha256, size=f.size) for f in made.entries]


def upload(
    name: str,
    *,
    made: ModelPackage | None = None,
    header: Mapping[str, Any] | None = None,
    entries: Sequence[common.FileEntry] | None = None,
    data: bytes | None = None,
    piece: int = 1 << 20,
    parameters: Mapping[str, Any] | None = None,
    lineage: Mapping[str, Any] | None = None,
    **package_options: Any,
) -> Iterator[pb.RegisterModelVersionRequest]:
    """The messages of an upload: the header, then the bytes in pieces."""
    made = made or package(**package_options)
    first = pb.RegisterHeader(
        name=name, files=entries_of(made) if entries is None else entries, lineage=pb.Lineage(**(lineage or {})), **(header or {})
    )
    first.parameters.update(parameters or {})
    yield pb.RegisterModelVersionRequest(header=first)
    joined = b"".join(made.data(entry.name) for entry in made.entries) if data is None else data
    for start in range(0, len(joined), piece):
        yield pb.RegisterModelVersionRequest(chunk=joined[start : start + piece])


def with_entry(made: ModelPackage, which: str, **changes: Any) -> list[common.FileEntry]:
    """The header's files with one of them said otherwise."""
    return [
        common.FileEntry(name=f.name, sha256=f.sha256, size=f.size)
        for entry in made.entries
        for f in [replace(entry, **changes) if entry.name == which else entry]
    ]


__all__ = ["ONNX", "SIGNATURE", "FileEntry", "entries_of", "package", "upload", "with_entry"]
