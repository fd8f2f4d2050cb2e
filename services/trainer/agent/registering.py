"""How does a trained package become a version?

Its files and the header are stored first, with the job; then the registry is asked, with the job's id as request id. So
a trainer that dies in between goes on with the very same request, and the registry answers it once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from perennial.errors import NotFound
from perennial.package import ModelPackage
from perennial.runtime.service import Runtime
from perennial.v1 import common_pb2, registry_pb2

from services.trainer import wire
from services.trainer.domain.job import Job

Decide = Callable[[Job], Job]
_Part = registry_pb2.RegisterModelVersionRequest
_CHUNK = 1 << 20
_DEADLINE_S = 60.0


class Registrar:
    """Stores packages with their jobs and registers them."""

    def __init__(self, runtime: Runtime) -> None:
        self._objects = runtime.objects
        self._registry = runtime.peers.registry

    async def stored(self, job: Job, folder: Path) -> Mapping[str, Any]:
        """Keep the package's files; what is needed to register them, as plain values."""
        package = await asyncio.to_thread(ModelPackage.read, folder)
        async with asyncio.TaskGroup() as group:
            for entry in package.entries:
                group.create_task(self._objects.put(_key(job, entry.name), package.data(entry.name)))
        header: dict[str, Any] = json_format.MessageToDict(_header(job, package), preserving_proto_field_name=True)
        return header

    async def registered(self, job: Job) -> str:
        """The version's number, the same one however often it is asked for."""
        header = json_format.ParseDict(dict(job.registration or {}), registry_pb2.RegisterHeader())
        contents = [await self._objects.get(_key(job, entry.name)) for entry in header.files]
        answer = await self._registry.RegisterModelVersion(_parts(header, contents), timeout=_DEADLINE_S)
        number: str = answer.model_version.version
        return number

    async def forgotten(self, job: Job) -> None:
        """Remove what was kept for the registration; the registry has its own."""
        header = json_format.ParseDict(dict(job.registration or {}), registry_pb2.RegisterHeader())
        for entry in header.files:
            try:
                await self._objects.delete(_key(job, entry.name))
            except NotFound:
                continue


def _key(job: Job, name: str) -> str:
    return f"jobs/{job.id}/{name}"


def _header(job: Job, package: ModelPackage) -> registry_pb2.RegisterHeader:
    """Everything the registry is told; nothing in it depends on when or how often the job ran."""
    manifest = package.manifest
    recipe = job.recipe
    assert recipe is not None
    return registry_pb2.RegisterHeader(
        name=recipe.model,
        files=[common_pb2.FileEntry(name=e.name, sha256=e.sha256, size=e.size) for e in package.entries],
        metrics=manifest.metrics, parameters=wire.struct_to(manifest.parameters), tags=recipe.tags,
        lineage=registry_pb2.Lineage(
            job_id=job.id, training_set=manifest.training_set, parent=job.parent, decision_id=job.decision_id,
            deployment=job.deployment, code_version=manifest.code_version, correlation_id=job.correlation_id,
            event_time=wire.time_to(job.event_time),
            causation_id=wire.event_id(job.id, job.changes + 1),  # of the event that says: registering
        ),
        request_id=job.id, first_alias=job.first_alias,
    )  # fmt: skip


async def _parts(header: registry_pb2.RegisterHeader, contents: list[bytes]) -> AsyncIterator[_Part]:
    yield _Part(header=header)
    for data in contents:
        for start in range(0, len(data), _CHUNK):
            yield _Part(chunk=data[start : start + _CHUNK])
