"""Is the service there? The standard gRPC health protocol, for ``""`` and the service's own name."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2 as pb

from perennial.errors import NotFound

_SERVING = pb.HealthCheckResponse.SERVING
_NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING


class Health:
    """Answers health checks; watchers are let go when the service stops, so they cannot hold it up."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Health"]

    def __init__(self, *names: str) -> None:
        self.names = {"", *names}
        self._changed = asyncio.Condition()
        self._status = _NOT_SERVING
        self._ended = False

    @property
    def serving(self) -> bool:
        """Whether calls are answered."""
        return bool(self._status == _SERVING)

    async def set(self, *, serving: bool) -> None:
        """Tell everybody who watches."""
        async with self._changed:
            self._status = _SERVING if serving else _NOT_SERVING
            self._changed.notify_all()

    async def end(self) -> None:
        """Let the watchers go."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def Check(self, request: Any, context: Any) -> pb.HealthCheckResponse:  # noqa: ARG002
        """The status now."""
        if request.service not in self.names:
            raise NotFound(f"no service {request.service}")
        return pb.HealthCheckResponse(status=self._status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[pb.HealthCheckResponse]:  # noqa: ARG002
        """The status now and at every change."""
        known = request.service in self.names
        told = None
        while not self._ended:
            status = self._status if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                told = status
                yield pb.HealthCheckResponse(status=status)
            async with self._changed:
                if not self._ended and (not known or self._status == told):
                    await self._changed.wait()
