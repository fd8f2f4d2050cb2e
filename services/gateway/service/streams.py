"""Many answers: as server-sent events, or a JSON text a line.

The first answer is awaited before the response begins, so a call that fails at once has its HTTP status; a later failure is
an ``error`` event (or a last line ``{"error": …}``) with the same problem document.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from google.protobuf.message import Message
from perennial.errors import PerennialError
from starlette.responses import Response, StreamingResponse

from services.gateway.domain.accept import EVENT_STREAM
from services.gateway.service.call import Call, problem_of
from services.gateway.wire import messages

_HEARTBEAT = b": still here\n\n"
_END: Any = object()


async def streamed(answers: AsyncIterator[Message], call: Call, *, heartbeat_s: float) -> Response:
    """The response that carries the answers as they come."""
    first = await anext(answers, None)
    events = call.wanted.stream == EVENT_STREAM
    body = _events(first, answers, call, heartbeat_s) if events else _lines(first, answers, call)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(body, media_type=call.wanted.stream, headers=headers)


async def _lines(first: Message | None, answers: AsyncIterator[Message], call: Call) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _text(first, call) + b"\n"
            async for answer in answers:
                yield _text(answer, call) + b"\n"
    except PerennialError as error:
        yield orjson.dumps({"error": problem_of(error, call.request_id).body()}) + b"\n"


async def _events(
    first: Message | None, answers: AsyncIterator[Message], call: Call, heartbeat_s: float
) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _event(_text(first, call))
            async for answer in _with_pauses(answers, heartbeat_s):
                yield _HEARTBEAT if answer is None else _event(_text(answer, call))
        yield _event(b"{}", b"end")
    except PerennialError as error:
        yield _event(orjson.dumps(problem_of(error, call.request_id).body()), b"error")


async def _with_pauses(answers: AsyncIterator[Message], every_s: float) -> AsyncIterator[Message | None]:
    """The answers, and None whenever none came for ``every_s``."""
    waiting: asyncio.Future[Any] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(answers, _END))
            done, _ = await asyncio.wait([waiting], timeout=every_s)
            if not done:
                yield None
                continue
            answer, waiting = waiting.result(), None
            if answer is _END:
                return
            yield answer
    finally:
        if waiting is not None:
            waiting.cancel()


def _text(answer: Message, call: Call) -> bytes:
    return messages.json_of(answer, packed=call.wanted.packed)


def _event(data: bytes, name: bytes = b"") -> bytes:
    return (b"event: " + name + b"\n" if name else b"") + b"data: " + data + b"\n\n"
