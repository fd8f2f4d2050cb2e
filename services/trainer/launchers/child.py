"""How does the trainer follow one child process?"""

import asyncio
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from perennial.errors import Internal, PerennialError, Unavailable, from_status

from services.trainer.launchers import forkserver

_JOIN_S = 5.0


class ChildDied(PerennialError):
    """The process ended without a word (killed, out of memory)."""

    status = "INTERNAL"


async def run(work: Callable[..., Any], spec: Any, progress: Callable[[float, str], None]) -> Any:
    """What ``work(spec, progress)`` gives, done in a child process; its errors come through. Cancelling kills it."""
    receiving, sending = forkserver.CONTEXT.Pipe(duplex=False)
    process = forkserver.CONTEXT.Process(target=forkserver.run_here, args=(work, spec, sending), daemon=True)
    try:
        await asyncio.to_thread(process.start)
    except (OSError, EOFError) as error:
        raise Unavailable(f"no work process could be started: {error!r}") from error
    finally:
        sending.close()
    try:
        return await _followed(receiving, progress)
    finally:
        process.kill()
        await asyncio.shield(asyncio.to_thread(process.join, _JOIN_S))
        receiving.close()


async def _followed(pipe: Connection, progress: Callable[[float, str], None]) -> Any:
    while True:
        try:
            kind, *rest = await asyncio.to_thread(pipe.recv)
        except (EOFError, OSError) as error:
            raise ChildDied("the training process died") from error
        if kind == "progress":
            progress(*rest)
        elif kind == "done":
            return rest[0]
        elif rest[0] == "INTERNAL":
            raise Internal(rest[1])
        else:
            raise from_status(*rest)
