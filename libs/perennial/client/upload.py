"""How is a model package sent and fetched? First what is said of it, then the bytes of its files in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from perennial.errors import InvalidArgument
from perennial.v1 import registry_pb2 as pb
from perennial.v1.common_pb2 import FileEntry

_PIECE = 1 << 20


def register_requests(header: pb.RegisterHeader, folder: Path) -> Iterator[pb.RegisterModelVersionRequest]:
    """The messages of an upload. InvalidArgument when the folder is not a model package."""
    if not (folder / "manifest.json").is_file():
        raise InvalidArgument(f"{folder} is not a model package: it holds no manifest.json (perennial.package makes one)")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    del header.files[:]
    for path in files:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        header.files.append(FileEntry(name=path.name, sha256=digest, size=path.stat().st_size))
    return _messages(header, files)


def _messages(header: pb.RegisterHeader, files: list[Path]) -> Iterator[pb.RegisterModelVersionRequest]:
    yield pb.RegisterModelVersionRequest(header=header)
    for path in files:
        with path.open("rb") as opened:
            while piece := opened.read(_PIECE):
                yield pb.RegisterModelVersionRequest(chunk=piece)


def write_files(folder: Path, files: Mapping[str, bytes | bytearray]) -> Path:
    """Writes files into a folder, made when it is not there; a name never leaves the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / Path(name).name).write_bytes(content)
    return folder
