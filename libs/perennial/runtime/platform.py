"""What does every service answer about itself? ``PlatformService``, on every service with the runtime."""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from perennial.errors import FailedPrecondition
from perennial.runtime import audit, audit_heads
from perennial.v1 import platform_pb2 as pb

if TYPE_CHECKING:
    from perennial.runtime.service import Runtime


def distribution_version() -> str:
    """The installed version of Perennial."""
    try:
        return version("perennial-mlops")
    except PackageNotFoundError:
        return "0"


class Platform:
    """Information and audit of one service."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime

    async def GetServiceInfo(self, request: pb.GetServiceInfoRequest, context: Any) -> pb.GetServiceInfoResponse:  # noqa: ARG002
        """Name, version, conditions."""
        answer = pb.GetServiceInfoResponse(
            service=self._runtime.name,
            version=distribution_version(),
            conditions=await self._runtime.conditions.now(),
            pid=os.getpid(),
        )
        answer.started_at.FromDatetime(self._runtime.started_at)
        return answer

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, context: Any) -> pb.VerifyAuditResponse:  # noqa: ARG002
        """Walk the chain; the heads on the topic are compared where Kafka answers."""
        runtime = self._runtime
        if runtime._postgres is None:  # noqa: SLF001 the platform is part of the runtime
            raise FailedPrecondition(f"{runtime.name} keeps no audit: it has no database")
        known = await audit_heads.read(runtime.bus, runtime.key)
        async with (
            runtime.postgres.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            verdict = await audit.verify(connection, published=known)
        return pb.VerifyAuditResponse(
            rows=verdict.rows, intact=verdict.intact, first_bad=verdict.first_bad, reason=verdict.reason, head=verdict.head.hex()
        )
