"""Uploads as JSON messages."""

import base64
from collections.abc import Iterator
from typing import Any

from perennial.package import ModelPackage


def messages_of(model: str, made: ModelPackage, *, piece: int = 1 << 20, **header: Any) -> Iterator[dict[str, Any]]:
    """The header, then the bytes in pieces."""
    files = [{"name": entry.name, "sha256": entry.sha256, "size": entry.size} for entry in made.entries]
    yield {"header": {"name": model, "files": files, **header}}
    data = b"".join(made.data(entry.name) for entry in made.entries)
    for start in range(0, len(data), piece):
        yield {"chunk": base64.b64encode(data[start : start + piece]).decode()}
