"""What does the metrics port answer? ``/metrics``, ``/healthz`` and ``/readyz``, and nothing else."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from perennial.runtime.telemetry import REGISTRY

READ_S = 5.0
_LINE = 8192
Readiness = Callable[[], Awaitable[tuple[bool, dict[str, str]]]]


class StatusPort:
    """A small HTTP server for probes and Prometheus; one request a connection."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port it is."""
        self._server = await asyncio.start_server(self._answer, host, port, limit=_LINE)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_S):
                request = (await reader.readline()).decode("latin-1").split()
                while (await reader.readline()).strip():
                    pass
                status, kind, body = await self._page(request)
                head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            return
        finally:
            writer.close()

    async def _page(self, request: list[str]) -> tuple[str, str, bytes]:
        if len(request) < 2 or request[0] != "GET":
            return "405 Method Not Allowed", "text/plain", b"only GET is answered here\n"
        path, _, query = request[1].partition("?")
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
        if path == "/healthz":
            return "200 OK", "text/plain", b"alive\n"
        if path == "/readyz":
            ready, conditions = await self._readiness()
            wrong = "strict" in query and any(conditions.values())
            body = json.dumps({"ready": ready, "conditions": conditions}, indent=1).encode() + b"\n"
            return ("200 OK" if ready and not wrong else "503 Service Unavailable"), "application/json", body
        return "404 Not Found", "text/plain", b"there is /metrics, /healthz and /readyz\n"
