"""How does a call reach the service that answers it?

The caller's own token travels on, so the service decides who may do what; the gateway adds nothing of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from perennial.errors import NotFound, PerennialError, Unavailable, from_status
from perennial.runtime.peers import open_channel

from services.gateway.config import GatewayConfig
from services.gateway.domain.route import Route
from services.gateway.wire.catalogue import SERVICES

Metadata = tuple[tuple[str, str], ...]
GATEWAY = "gateway"
_LOCAL_TEXTS = ("failed to connect", "connection", "socket", "recvmsg", "dns resolution", "goaway", "empty address", "endpoint")
"""How the texts begin that gRPC itself writes when a service cannot be reached; they name addresses."""


class Upstream:
    """Channels to the services, opened at first use."""

    def __init__(self, config: GatewayConfig, own_port: Callable[[], int]) -> None:
        self._config = config
        self._own_port = own_port
        """The gateway's own gRPC port, known once it listens."""
        self._channels: dict[str, Any] = {}

    def peer_of(self, route: Route, request: Message) -> str:
        """The service that answers; NotFound when the request names one that does not exist."""
        name: str = route.peer or request.service  # type: ignore[attr-defined] # platform requests have it
        if name not in (*SERVICES, GATEWAY):
            raise NotFound(f"there is no service {name!r}; there are {', '.join((*SERVICES, GATEWAY))}")
        return name

    async def single(self, route: Route, peer: str, request: Any, *, metadata: Metadata, timeout_s: float) -> Message:
        """The one answer to a request or, for a client stream, to an iterator of them; failures as perennial.errors."""
        streams = route.method.client_streaming
        call = self._call(route, peer)(*(() if streams else (request,)), metadata=metadata, timeout=timeout_s)
        try:
            if streams:
                await _sent(call, request)
            answer: Message = await call
        except grpc.aio.AioRpcError as error:
            raise failure(error, peer) from None
        finally:
            call.cancel()
        return answer

    async def stream(
        self, route: Route, peer: str, request: Any, *, metadata: Metadata, timeout_s: float
    ) -> AsyncIterator[Message]:
        """The answers, one by one; the call is cancelled when nobody takes them any more."""
        call = self._call(route, peer)(request, metadata=metadata, timeout=timeout_s)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise failure(error, peer) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close(grace=None)
        self._channels.clear()

    async def reachable(self, peer: str) -> str | None:
        """A readiness condition: None, or what is wrong with a service."""
        check = self._channel(peer).unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=2.0)
        except grpc.aio.AioRpcError as error:
            return str(failure(error, peer).message)
        return None if answer.status == health_pb2.HealthCheckResponse.SERVING else f"{peer} is not serving"

    def _call(self, route: Route, peer: str) -> Any:
        method = route.method
        shape = ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary")
        answer = method.output_type._concrete_class  # noqa: SLF001 protobuf's own way from descriptor to class
        return getattr(self._channel(peer), shape)(
            f"/{route.path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def _own_address(self) -> str:
        host = self._config.host if self._config.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 compared, not bound
        return f"{host}:{self._own_port()}"

    def _channel(self, peer: str) -> Any:
        if peer not in self._channels:
            address = self._own_address() if peer == GATEWAY else getattr(self._config, f"{peer}_address")
            self._channels[peer] = open_channel(address, self._config)
        return self._channels[peer]


async def _sent(call: Any, requests: AsyncIterator[Message]) -> None:
    """Send what comes, until the service has answered; what fails on our side is raised here and not lost in gRPC's task."""
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except asyncio.InvalidStateError:
        return  # the answer is there before the end: the call says what it is


def failure(error: grpc.aio.AioRpcError, peer: str) -> PerennialError:
    """The platform's error for a failed call; what gRPC itself says of a service that is away is put in our words."""
    status, details = error.code().name, error.details() or ""
    if status == "UNAVAILABLE" and (not details or details.lower().startswith(_LOCAL_TEXTS)):
        return Unavailable(f"{peer} cannot be reached; try again later")
    return from_status(status, details or f"{peer} gave {status}")


