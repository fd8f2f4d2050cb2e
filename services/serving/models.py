"""What does the registry say of models, versions and the alias champion?"""

from __future__ import annotations

from typing import NamedTuple

from perennial.errors import Aborted, AlreadyExists, FailedPrecondition
from perennial.runtime.peers import Peers
from perennial.v1.registry_pb2 import GetModelRequest, GetModelVersionRequest, SetAliasRequest

from services.serving import wire
from services.serving.domain.deployment import CHAMPION
from services.serving.domain.rollout import Build


class Registered(NamedTuple):
    """A version, and whether it may go live."""

    build: Build
    approved: bool


class Models:
    """The registry, as far as serving needs it."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def version(self, model: str, version: str) -> Registered:
        """A version by number, or by ``@alias``. NotFound."""
        answer = await self._peers.registry.GetModelVersion(GetModelVersionRequest(name=model, version=version))
        found = answer.model_version
        return Registered(wire.build_from(found), found.approval in ("", "none", "approved"))

    async def champion(self, model: str) -> str:
        """The version the alias champion names; empty when there is no such alias. NotFound (model)."""
        answer = await self._peers.registry.GetModel(GetModelRequest(name=model))
        return str(answer.model.aliases.get(CHAMPION, ""))

    async def promote(
        self, model: str, version: str, *, expected: str, request_id: str, chain: tuple[str, str] = ("", ""), now_us: int = 0
    ) -> str:
        """Move the alias from ``expected`` to ``version``; the version it names then, another one when that was refused.

        Repeating it with the same id does no harm, at another time neither. ``chain``: correlation and causation.
        """
        request = SetAliasRequest(
            name=model, alias=CHAMPION, version=version, expected=expected, request_id=request_id,
            correlation_id=chain[0], causation_id=chain[1], event_time=wire.timestamp(now_us) if now_us else None,
        )  # fmt: skip
        try:
            await self._peers.registry.SetAlias(request)
        except (Aborted, AlreadyExists, FailedPrecondition):
            return await self.champion(model)
        return version
