"""What happens when the same prediction is asked for twice?

Within ten minutes a request id gives the first answer again. Answers lie in the spool, so a restart keeps them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from perennial.errors import InvalidArgument
from perennial.spool.records import Call
from perennial.spool.segments import Position, Reader
from perennial.v1.serving_pb2 import PredictRequest, PredictResponse

KEEP_S = 600.0


class _Entry(NamedTuple):
    body: bytes
    answer: asyncio.Future[bytes]
    until: float


class Repeats:
    """Answers by deployment and request id."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    async def once(
        self, request: PredictRequest, work: Callable[[str, bytes], Awaitable[PredictResponse]]
    ) -> PredictResponse:
        """The answer of ``work``, or the first one; InvalidArgument when the id was used with another body."""
        key = f"{request.deployment}\n{request.request_id}"
        body = blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()
        found = self._entries.get(key)
        if found is not None and found.until > time.time():
            if found.body != body:
                raise InvalidArgument(f"request_id {request.request_id} was used with another body; use a new one")
            return PredictResponse.FromString(await asyncio.shield(found.answer))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._forget()
        self._entries[key] = _Entry(body, answer, time.time() + KEEP_S)
        try:
            response = await work(key, body)
        except BaseException as error:
            del self._entries[key]
            answer.set_exception(error if isinstance(error, Exception) else InvalidArgument("the first call was given up"))
            answer.exception()  # read: perhaps nobody waits
            raise
        answer.set_result(response.SerializeToString())
        return response

    def _forget(self) -> None:
        """Drop what is too old; the oldest come first."""
        now = time.time()
        while self._entries and next(iter(self._entries.values())).until <= now:
            del self._entries[next(iter(self._entries))]

    def learn(self, folder: Path) -> None:
        """Take in the answers of the last ten minutes from a spool."""
        reader, now = Reader(folder, Position()), time.time()
        while found := reader.chunk(4 << 20):
            for _, record in found:
                if isinstance(record, Call) and record.request_id and record.wall_s > now - KEEP_S:
                    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                    answer.set_result(record.answer)
                    self._entries[record.request_id] = _Entry(record.body, answer, record.wall_s + KEEP_S)
        reader.close()
