"""Where do models come from when nothing outside answers?

A version's files lie on the own disk under the artifact's digest. They appear whole or not at all, and every digest is
checked at every load: what does not fit is thrown away and fetched again.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
from perennial.errors import DataLoss, InvalidArgument, NotFound
from perennial.frames import Table, Text
from perennial.package import Manifest, ModelPackage, Predictor, artifact_digest, open_package
from perennial.package.manifest import MANIFEST, FileEntry
from perennial.runtime.objects import Objects

from services.serving.domain.rollout import Build


class ModelCache:
    """Loaded models by artifact, at most ``most`` of them; their files stay on the disk."""

    def __init__(self, folder: Path, objects: Objects, *, most: int) -> None:
        self._folder = folder
        self._objects = objects
        self._most = most
        self._loaded: dict[str, Predictor] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    async def load(self, build: Build) -> Predictor:
        """The model of a build, from memory, disk or the object store; DataLoss when its bytes are not the ones registered."""
        digest = build.artifact_digest
        async with self._locks.setdefault(digest, asyncio.Lock()):
            found = self._loaded.pop(digest, None) or await self._opened(build)
            self._loaded[digest] = found  # the newest use comes last
            while len(self._loaded) > self._most:
                del self._loaded[next(iter(self._loaded))]
            return found

    async def _opened(self, build: Build) -> Predictor:
        path = self._folder / build.artifact_digest
        try:
            return await asyncio.to_thread(_open, path, build)
        except NotFound:
            pass
        except (DataLoss, InvalidArgument):
            await asyncio.to_thread(shutil.rmtree, path)
        await self._fetch(build, path)
        return await asyncio.to_thread(_open, path, build)

    async def _fetch(self, build: Build, path: Path) -> None:
        """Bring the files; they appear under the digest's name only when all are there and right."""
        draft = self._folder / f".{build.artifact_digest}.{secrets.token_hex(4)}"
        draft.mkdir(parents=True)
        try:
            manifest = await self._objects.get(f"{build.artifact_prefix}/{MANIFEST}")
            (draft / MANIFEST).write_bytes(manifest)
            for entry in Manifest.decoded(manifest).files:
                await self._objects.fetch(f"{build.artifact_prefix}/{entry.name}", draft / entry.name)
            await asyncio.to_thread(_verified, draft, build)
            await asyncio.to_thread(_renamed, draft, path)
        finally:
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


def _renamed(draft: Path, path: Path) -> None:
    if not path.exists():
        draft.rename(path)


def _verified(path: Path, build: Build) -> ModelPackage:
    package = ModelPackage.read(path)
    found = artifact_digest([FileEntry.of(MANIFEST, (path / MANIFEST).read_bytes()), *package.manifest.files])
    if found != build.artifact_digest:
        raise DataLoss(f"version {build.version}: the artifact has digest {found}, not {build.artifact_digest}")
    return package


def _open(path: Path, build: Build) -> Predictor:
    predictor = open_package(_verified(path, build))
    if predictor.signature.to_json() != build.signature:
        raise DataLoss(f"version {build.version}: the artifact has another signature than was registered")
    signature = predictor.signature
    texts = {name: Text(np.full(1, -1, dtype=np.int32), ()) for name in signature.text_names}
    numbers = np.zeros((1, len(signature.number_names)), dtype=np.float32)
    with suppress(Exception):  # the first run allocates; whether a row can be answered is for the calls to find out
        predictor.run(Table(1, signature.number_names, numbers, texts))
    return predictor
