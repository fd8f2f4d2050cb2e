"""How does the gateway listen for HTTP?"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from perennial.errors import FailedPrecondition
from starlette.applications import Starlette

_STARTED_S = 10.0


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the runtime has them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """The HTTP port; :meth:`stop` lets running calls end within the grace."""

    def __init__(self, app: Starlette, *, host: str, port: int, grace_s: float) -> None:
        settings = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="off", timeout_keep_alive=30,
            timeout_graceful_shutdown=max(1, int(grace_s)), h11_max_incomplete_event_size=64 * 1024,
        )  # fmt: skip
        self._server = _Server(settings)
        self._address = (host, port)
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; FailedPrecondition when the port is taken."""
        try:
            listening = socket.create_server(self._address, backlog=512)
        except OSError as error:
            host, port = self._address
            raise FailedPrecondition(f"{host}:{port} cannot be listened on; is another gateway running? ({error})") from None
        self.port = int(listening.getsockname()[1])
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name="http")
        async with asyncio.timeout(_STARTED_S):
            while not self._server.started and not self._task.done():  # noqa: ASYNC110 uvicorn tells it in a flag only
                await asyncio.sleep(0.005)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Take no more requests, wait for those that run."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
