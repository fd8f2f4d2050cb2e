"""Where a job's files come from: training sets, the prediction log, and the version it retrains.

Whatever is fetched is held against the digest under which it was handed over before anything reads it.
"""

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from perennial.errors import DataLoss, InvalidArgument, NotFound
from perennial.package import MANIFEST, FileEntry, Manifest, ModelPackage, artifact_digest
from perennial.runtime.service import Runtime
from perennial.v1 import feature_pb2, registry_pb2

from services.trainer.agent.work.spec import LogFiles, TrainingSetFile
from services.trainer.domain.job import Job
from services.trainer.domain.recipe import Data, LogRows, Recipe

_AT_ONCE = 4


class Sources:
    """Fetches what a job needs."""

    def __init__(self, runtime: Runtime) -> None:
        self._objects = runtime.objects
        self._peers = runtime.peers

    async def columns(self, data: Data) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Input and label columns of the data; NotFound when it does not exist."""
        digest = data.log.first_training_set if data.log else data.training_set
        if data.log is not None:
            await self._manifest(data.log)
            if not digest:
                raise InvalidArgument("log data without a first training set belongs to a retraining")
        answer = await self._peers.feature.GetTrainingSet(feature_pb2.GetTrainingSetRequest(digest=digest))
        found = answer.training_set
        return tuple(c.name for c in found.columns), tuple(found.label_columns)

    async def training_set(self, digest: str, folder: Path) -> TrainingSetFile:
        """A training set on this disk; DataLoss when its bytes are not those of its digest."""
        path = folder / "training-set.parquet"
        await self._fetched(f"training-sets/{digest}.parquet", digest, path)
        return TrainingSetFile(str(path), digest)

    async def log(self, rows: LogRows, folder: Path) -> LogFiles:
        """The snapshot's files that can hold rows of the window, or outcomes of them."""
        manifest = await self._manifest(rows)
        wanted: dict[str, list[tuple[str, str, Path]]] = {"predictions": [], "outcomes": []}
        for place, entry in enumerate(manifest["files"]):
            if entry["kind"] in wanted and not _outside(entry, rows):
                path = folder / f"{entry['kind']}-{place}.parquet"
                wanted[entry["kind"]].append((entry["key"], entry["sha256"], path))
        limit = asyncio.Semaphore(_AT_ONCE)

        async def fetched(key: str, sha256: str, path: Path) -> None:
            async with limit:
                await self._fetched(key, sha256, path)

        async with asyncio.TaskGroup() as group:
            for key, sha256, path in (*wanted["predictions"], *wanted["outcomes"]):
                group.create_task(fetched(key, sha256, path))
        begins = [e["from_us"] for e in manifest["files"] if e["kind"] == "predictions" and "from_us" in e]
        streams = manifest.get("cut", {}).get("streams")
        return LogFiles(
            predictions=tuple(str(path) for _, _, path in wanted["predictions"]),
            outcomes=tuple(str(path) for _, _, path in wanted["outcomes"]),
            window_start_us=rows.window_start_us, window_end_us=rows.window_end_us, change_us=rows.change_us,
            begins_us=min(begins) if begins else None, streams=_positions(streams),
            units=rows.units,
        )  # fmt: skip

    async def parent(self, job: Job, folder: Path) -> tuple[ModelPackage, registry_pb2.ModelVersion]:
        """The version that a job retrains, verified and written to ``folder``."""
        request = registry_pb2.GetModelVersionRequest(name=job.model, version=job.parent)
        version = (await self._peers.registry.GetModelVersion(request)).model_version
        entries = [FileEntry(f.name, f.sha256, f.size) for f in version.files]
        if artifact_digest(entries) != version.artifact_digest:
            raise DataLoss(f"{job.model} {job.parent}: its files do not make its artifact digest")
        contents = {e.name: await self._got(f"{version.artifact_prefix}/{e.name}", e.sha256) for e in entries}
        manifest = Manifest.decoded(contents.pop(MANIFEST))
        package = ModelPackage(manifest, contents)
        await asyncio.to_thread(package.write, folder)
        return package, version

    async def _manifest(self, rows: LogRows) -> dict[str, Any]:
        """What a snapshot holds."""
        data = await self._got(rows.snapshot.manifest_key, rows.snapshot.manifest_sha256)
        try:
            found: dict[str, Any] = json.loads(data)
            kinds = [(entry["kind"], entry["key"], entry["sha256"]) for entry in found["files"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"{rows.snapshot.manifest_key} is not a snapshot's manifest: {error!r}") from None
        if not kinds:
            raise NotFound(f"snapshot {rows.snapshot.snapshot_id} holds no file")
        return found

    async def _got(self, key: str, sha256: str) -> bytes:
        data = await self._objects.get(key)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DataLoss(f"object {key} does not have the digest {sha256}")
        return data

    async def _fetched(self, key: str, sha256: str, path: Path) -> None:
        data = await self._got(key, sha256)
        await asyncio.to_thread(path.write_bytes, data)


def _outside(entry: dict[str, Any], rows: LogRows) -> bool:
    """Whether a file of predictions says that all its rows lie outside the window."""
    if entry["kind"] != "predictions" or "from_us" not in entry or "to_us" not in entry:
        return False
    return bool(entry["to_us"] < rows.window_start_us or entry["from_us"] >= rows.window_end_us)


def _positions(streams: Any) -> dict[str, int] | None:
    """Where each stream stood at the cut, when the manifest says so as plain numbers."""
    if not isinstance(streams, dict) or not all(isinstance(n, int) for n in streams.values()):
        return None
    return dict(streams)


def recipe_of(package: ModelPackage, model: str) -> Recipe:
    """The recipe a version was trained by."""
    manifest = package.manifest
    return Recipe(
        model=model, algorithm=manifest.algorithm, task=str(manifest.signature.task), target=manifest.target,
        columns=tuple(c.name for c in manifest.signature.columns), hyperparameters=dict(manifest.parameters), seed=manifest.seed,
    )  # fmt: skip


def tagged(recipe: Recipe, version: registry_pb2.ModelVersion) -> Recipe:
    """The recipe with its parent's tags."""
    return replace(recipe, tags=dict(version.tags))
