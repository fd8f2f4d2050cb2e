"""The bytes of a request's body: whole within a limit, or message by message."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from perennial.errors import InvalidArgument
from starlette.requests import ClientDisconnect, Request

from services.gateway.domain.accept import is_lines
from services.gateway.wire import messages

_DRAINED_BYTES = 64 * 1024 * 1024
_DRAINED_S = 10.0


async def whole(request: Request, most: int) -> bytes:
    """The body; InvalidArgument when it is larger than ``most`` bytes."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > most:
            raise InvalidArgument(f"the body is larger than {most} bytes; stream it where the call takes a stream")
    return bytes(found)


async def drained(request: Request) -> None:
    """Read and forget what is left of the body, within limits: a sender that is still sending would not see the answer."""
    left = _DRAINED_BYTES
    try:
        async with asyncio.timeout(_DRAINED_S):
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    return
    except (TimeoutError, RuntimeError, ClientDisconnect):
        return  # enough, or nothing is left


async def each(request: Request, kind: Any, most: int) -> AsyncIterator[Any]:
    """The messages of a client stream: a JSON text a line as they come, or a JSON array of them."""
    if is_lines(request.headers.get("content-type", "")):
        async for line in lines(request, most):
            yield messages.message_of(kind, messages.body_value(line))
        return
    values = messages.body_value(await whole(request, most))
    if not isinstance(values, list):
        raise InvalidArgument("the body must be a JSON array of messages, or a message a line as application/x-ndjson")
    for value in values:
        yield messages.message_of(kind, value)


async def lines(request: Request, most: int) -> AsyncIterator[bytes]:
    """The lines of the body that are not blank; InvalidArgument when one is longer than ``most`` bytes."""
    rest = bytearray()
    async for piece in request.stream():
        *ended, last = piece.split(b"\n")
        for part in ended:
            rest += part
            if rest.strip():
                yield bytes(rest)
            rest.clear()
        rest += last
        if len(rest) > most:
            raise InvalidArgument(f"a line is longer than {most} bytes")
    if rest.strip():
        yield bytes(rest)
