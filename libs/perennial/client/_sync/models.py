# Generated from ../_async by tools/unasync.py; do not edit.
"""Models and versions: ``client.models``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from perennial.client._sync.calls import Calls, pages
from perennial.client.upload import register_requests, write_files
from perennial.v1 import registry_pb2 as pb
from perennial.v1.common_pb2 import ChainEvent, Page
from perennial.v1.registry_pb2_grpc import RegistryServiceStub

_UPLOAD_DEADLINE_S = 600.0


class Models:
    """Registers, finds and moves model versions."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def _stub(self) -> Any:
        return self._calls.stub("registry", RegistryServiceStub)

    def register(
        self,
        name: str,
        folder: Path | str,
        *,
        version: str = "",
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        first_alias: str = "",
        request_id: str = "",
    ) -> pb.ModelVersion:
        """Registers a model package (see ``perennial.package``); digests are checked on both ends."""
        header = pb.RegisterHeader(
            name=name,
            version=version,
            metrics=metrics or {},
            tags=tags or {},
            description=description,
            first_alias=first_alias,
            request_id=request_id or uuid.uuid4().hex,
        )
        requests: Iterator[pb.RegisterModelVersionRequest] = register_requests(header, Path(folder))
        answer = self._calls.unary(self._stub.RegisterModelVersion, requests, _UPLOAD_DEADLINE_S)
        found: pb.ModelVersion = answer.model_version
        return found

    def get(self, name: str, version: str = "@champion") -> pb.ModelVersion:
        """One version, by number or @alias. NotFound when there is none."""
        answer = self._calls.unary(self._stub.GetModelVersion, pb.GetModelVersionRequest(name=name, version=version))
        found: pb.ModelVersion = answer.model_version
        return found

    def download(self, name: str, version: str, to: Path | str) -> Path:
        """Writes the files of a version into a folder."""
        request = pb.DownloadModelVersionRequest(name=name, version=version)
        files: dict[str, bytearray] = {}
        for piece in self._calls.stream(self._stub.DownloadModelVersion, request, _UPLOAD_DEADLINE_S):
            files.setdefault(piece.file, bytearray()).extend(piece.chunk)
        return write_files(Path(to), files)

    def models(self) -> Iterator[pb.Model]:
        """Every model, by name."""
        stub = self._stub

        def fetch(token: str) -> Any:
            return self._calls.unary(stub.ListModels, pb.ListModelsRequest(page=Page(token=token)))

        for model in pages(fetch, lambda answer: answer.models):
            yield model

    def versions(self, name: str) -> Iterator[pb.ModelVersion]:
        """Every version of a model, newest first."""
        stub = self._stub

        def fetch(token: str) -> Any:
            return self._calls.unary(stub.ListModelVersions, pb.ListModelVersionsRequest(name=name, page=Page(token=token)))

        for version in pages(fetch, lambda answer: answer.model_versions):
            yield version

    def set_alias(self, name: str, alias: str, version: str, *, expected: str = "*") -> pb.Model:
        """Points an alias at a version; Aborted when it does not name ``expected`` now."""
        request = pb.SetAliasRequest(name=name, alias=alias, version=version, expected=expected, request_id=uuid.uuid4().hex)
        answer = self._calls.unary(self._stub.SetAlias, request)
        found: pb.Model = answer.model
        return found

    def promote(self, name: str, version: str, stage: str) -> pb.ModelVersion:
        """Moves a version to development, staging, production or archived."""
        value = pb.Stage.Value(f"STAGE_{stage.upper()}")
        request = pb.PromoteModelVersionRequest(name=name, version=version, stage=value, request_id=uuid.uuid4().hex)
        answer = self._calls.unary(self._stub.PromoteModelVersion, request)
        found: pb.ModelVersion = answer.model_version
        return found

    def at(self, name: str, alias: str, time: datetime) -> pb.GetVersionAtResponse:
        """What an alias named at a time: who was champion in March."""
        request = pb.GetVersionAtRequest(name=name, alias=alias)
        request.time.FromDatetime(time)
        found: pb.GetVersionAtResponse = self._calls.unary(self._stub.GetVersionAt, request)
        return found

    def chain(self, event_id: str) -> list[ChainEvent]:
        """Every event of the causal chain that this event is in, in order."""
        answer = self._calls.unary(self._stub.ListChain, pb.ListChainRequest(correlation_id=event_id))
        return list(answer.events)

    def events(self, *, kind: str = "", subject: str = "", limit: int = 50) -> list[ChainEvent]:
        """The newest events of the platform."""
        request = pb.ListEventsRequest(type=kind, subject=subject, page=Page(size=limit))
        answer = self._calls.unary(self._stub.ListEvents, request)
        return list(answer.events)
