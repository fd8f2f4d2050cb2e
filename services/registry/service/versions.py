"""Calls on versions: registration, reading, stages, approvals, files."""

import hashlib
from collections.abc import AsyncIterator

from perennial.errors import AlreadyExists, InvalidArgument, NotFound
from perennial.v1 import registry_pb2 as pb

from services.registry import wire
from services.registry.config import RegistryConfig
from services.registry.domain import compare
from services.registry.domain.facts import Chain, after
from services.registry.domain.model import promoted
from services.registry.domain.names import checked_text
from services.registry.domain.upload import Header
from services.registry.domain.version import Actor, ModelVersion
from services.registry.service.calling import Context, actor, page_of
from services.registry.store import Artifacts, Models
from services.registry.store.models import Filters

Requests = AsyncIterator[pb.RegisterModelVersionRequest]


class VersionCalls:
    """Versions of models."""

    _models: Models
    _artifacts: Artifacts
    _config: RegistryConfig

    async def RegisterModelVersion(
        self, request_iterator: Requests, context: Context
    ) -> pb.RegisterModelVersionResponse:
        """Registers a version from its streamed files."""
        message = await _header(request_iterator)
        header, author, digest = wire.header_from(message), actor(), _digest(message)
        header.check(most_files=self._config.artifact_files, most_bytes=self._config.artifact_bytes)
        version = await self._registered_before(header, author, digest)
        if version is None:
            version = await self._registered(header, author, digest, _chunks(request_iterator))
        return pb.RegisterModelVersionResponse(model_version=wire.model_version_to(version))

    async def _registered_before(self, header: Header, author: Actor, digest: bytes) -> ModelVersion | None:
        before = await self._models.registered_before(str(author), header.request_id) if header.request_id else None
        if before is not None and before[1] != digest:
            raise AlreadyExists(f"request_id {header.request_id} was used for {before[0]}; use a new one")
        return before[0] if before else None

    async def _registered(
        self, header: Header, author: Actor, digest: bytes, chunks: AsyncIterator[bytes]
    ) -> ModelVersion:
        """Verify and store the files, then the version with its events in one transaction."""
        async with self._artifacts.received(header.files, chunks) as upload:
            manifest = upload.manifest()
            header.check_manifest(manifest)
            await upload.check_graph()
            await self._artifacts.store(wire.artifact_prefix(header.artifact_digest), upload)
        async with self._models.locked(header.name, create=True) as record:
            again = await self._registered_before(header, author, digest)
            if again is not None:
                return again
            draft = header.draft(manifest, author=author, at=record.at)
            record.chain = Chain.of(draft.lineage)
            base, taken = await record.base_of(draft.lineage.parent)
            fact, *facts = record.model.registered(
                draft, base=base, taken=taken, wanted=header.wanted, first_alias=header.first_alias
            )
            await record.add(fact, caller=str(author), request_id=header.request_id, digest=digest)
            await record.apply(*facts)
        return after(fact.version, *facts)

    async def GetModelVersion(
        self, request: pb.GetModelVersionRequest, context: Context
    ) -> pb.GetModelVersionResponse:
        """One version, by number or by alias."""
        version = await self._models.version(wire.key(request.name), wire.key(request.version))
        return pb.GetModelVersionResponse(model_version=wire.model_version_to(version))

    async def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, context: Context
    ) -> pb.ListModelVersionsResponse:
        """Versions of a model, newest first."""
        page = page_of(request.page, "versions", request.name)
        versions, token = await self._models.versions_of(wire.key(request.name), page)
        return pb.ListModelVersionsResponse(model_versions=map(wire.model_version_to, versions), next_token=token)

    async def SearchModelVersions(
        self, request: pb.SearchModelVersionsRequest, context: Context
    ) -> pb.SearchModelVersionsResponse:
        """Versions of all models by stage, tags, algorithm or text."""
        stage = wire.stage_from(request.stage) if request.stage else None
        tags = [checked_text(tag, "tags") for tag in request.tags]
        filters = Filters.of(stage, wire.key(request.algorithm), wire.key(request.text), tags)
        versions, token = await self._models.search(filters, page_of(request.page, "search", filters))
        return pb.SearchModelVersionsResponse(model_versions=map(wire.model_version_to, versions), next_token=token)

    async def CompareModelVersions(
        self, request: pb.CompareModelVersionsRequest, context: Context
    ) -> pb.CompareModelVersionsResponse:
        """Differences of two versions."""
        left, right = [await self._models.version(wire.key(request.name), wire.key(r)) for r in (request.version, request.other)]
        return pb.CompareModelVersionsResponse(
            left=wire.model_version_to(left),
            right=wire.model_version_to(right),
            metrics_diff=compare.metrics_diff(left, right),
            changes=compare.changes(left, right),
        )

    async def PromoteModelVersion(
        self, request: pb.PromoteModelVersionRequest, context: Context
    ) -> pb.PromoteModelVersionResponse:
        """Moves a version to a stage."""
        stage = wire.stage_from(request.stage)
        async with self._models.locked(wire.key(request.name)) as record:
            version = await record.version(wire.key(request.version))
            facts = promoted(version, stage, by=actor())
            await record.apply(*facts)
        return pb.PromoteModelVersionResponse(model_version=wire.model_version_to(after(version, *facts)))

    async def DecideApproval(
        self, request: pb.DecideApprovalRequest, context: Context
    ) -> pb.DecideApprovalResponse:
        """Approves or refuses a version for production."""
        comment = checked_text(request.comment, "comment")
        async with self._models.locked(wire.key(request.name)) as record:
            version = await record.version(wire.key(request.version))
            facts = record.model.approval_decided(version, approved=request.approved, by=actor(), comment=comment)
            await record.apply(*facts)
        return pb.DecideApprovalResponse(model_version=wire.model_version_to(after(version, *facts)))

    async def DownloadModelVersion(
        self, request: pb.DownloadModelVersionRequest, context: Context
    ) -> AsyncIterator[pb.DownloadModelVersionResponse]:
        """The files of a version, in pieces."""
        version = await self._models.version(wire.key(request.name), wire.key(request.version))
        if unknown := sorted(set(request.files) - {entry.name for entry in version.files}):
            raise NotFound(f"{version} has no file {', '.join(unknown)}")
        wanted = [entry for entry in version.files if not request.files or entry.name in request.files]
        async for name, piece in self._artifacts.pieces(wire.artifact_prefix(version.artifact_digest), wanted):
            yield pb.DownloadModelVersionResponse(file=name, chunk=piece)


async def _header(requests: Requests) -> pb.RegisterHeader:
    first = await anext(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidArgument("the first message must be the header")
    return first.header


async def _chunks(requests: Requests) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgument("after the header only pieces of the files' bytes may follow")
        yield request.chunk


def _digest(header: pb.RegisterHeader) -> bytes:
    return hashlib.sha256(header.SerializeToString(deterministic=True)).digest()
