"""How does a call leave the client, and how does a failure come back?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

import grpc
import grpc.aio

from perennial.client.connection import Connection
from perennial.errors import PerennialError, from_status

USUAL_DEADLINE_S = 30.0


def error_of(failure: grpc.RpcError) -> PerennialError:
    """The platform's error of a failed call."""
    call: Any = failure
    return from_status(call.code().name, call.details() or "")


class AsyncCalls:
    """Channels to the services, opened when first used; every call carries the token and a deadline."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[str, Any] = {}

    def stub(self, service: str, kind: Callable[[Any], Any]) -> Any:
        """The generated stub of a service."""
        if service not in self._stubs:
            self._stubs[service] = kind(self.channel(service))
        return self._stubs[service]

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to a service, opened now when it was not."""
        if service not in self._channels:
            address, credentials = self.connection.addresses[service], self.connection.credentials()
            options = self.connection.options()
            self._channels[service] = (
                grpc.aio.insecure_channel(address, options=options)
                if credentials is None
                else grpc.aio.secure_channel(address, credentials, options=options)
            )
        return self._channels[service]

    async def unary(self, method: Any, request: Any, deadline_s: float = USUAL_DEADLINE_S) -> Any:
        """The answer of a unary or client-streaming call; the platform's errors instead of gRPC's."""
        try:
            return await method(request, timeout=deadline_s, metadata=self.connection.metadata)
        except grpc.RpcError as failure:
            raise error_of(failure) from None

    async def stream(self, method: Any, request: Any, deadline_s: float = USUAL_DEADLINE_S) -> AsyncIterator[Any]:
        """The answers of a server-streaming call."""
        try:
            async for answer in method(request, timeout=deadline_s, metadata=self.connection.metadata):
                yield answer
        except grpc.RpcError as failure:
            raise error_of(failure) from None

    async def close(self) -> None:
        """Closes every channel."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        self._stubs.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


async def pages(fetch: Callable[[str], Any], rows: Callable[[Any], Iterable[Any]]) -> AsyncIterator[Any]:
    """Every row of a paged list; ``fetch`` takes the token of a page."""
    token = ""
    while True:
        answer = await fetch(token)
        for row in rows(answer):
            yield row
        token = answer.next_token
        if not token:
            return
