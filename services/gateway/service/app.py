"""The web application: every route of every RPC, the OpenAPI document, health and metrics."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from perennial.errors import InvalidArgument, PerennialError
from perennial.runtime import telemetry
from perennial.runtime.calls import CallStats
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Path

from services.gateway.config import GatewayConfig
from services.gateway.domain.problem import CONTENT_TYPE, Problem
from services.gateway.domain.route import Route, Routes
from services.gateway.service import bodies
from services.gateway.service.call import REQUEST_ID, Call, problem_of, request_id_of
from services.gateway.service.streams import streamed
from services.gateway.service.upstream import Upstream
from services.gateway.wire import messages

Conditions = Callable[[], Awaitable[dict[str, str]]]
_LOG = telemetry.log(__name__)
_VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


class Gateway:
    """Answers requests by calling the service they are for."""

    def __init__(self, config: GatewayConfig, routes: Routes, upstream: Upstream) -> None:
        self._config = config
        self._routes = routes
        self._upstream = upstream

    async def answer(self, request: Request) -> Response:
        """The response to any request under the API; a failure is a problem document."""
        begin, request_id = perf_counter(), request_id_of(request)
        try:
            route, values, verbs = self._routes.find(request.method, _raw_path(request))
        except PerennialError as error:
            return _problem(problem_of(error, request_id))
        if route is None:
            return _problem(_no_route(request, verbs, request_id), {"allow": ", ".join(verbs)} if verbs else {})
        stats = CallStats.of(route.path)
        try:
            response = await self._called(request, route, values, request_id)
        except Exception as error:  # noqa: BLE001 whatever it is, the caller gets a problem document
            problem = _failed(error, route, request_id)
            stats.failed(problem.code, perf_counter() - begin)
            await bodies.drained(request)
            return _problem(problem)
        stats.observe(perf_counter() - begin)
        response.headers[REQUEST_ID] = request_id
        return response

    async def _called(self, request: Request, route: Route, values: dict[str, str], request_id: str) -> Response:
        method = route.method
        call = Call.of(request, self._config, request_id=request_id, streamed=method.server_streaming or method.client_streaming)
        kind = method.input_type._concrete_class  # noqa: SLF001 protobuf's own way from descriptor to class
        if method.client_streaming:
            message: Any = bodies.each(request, kind, self._config.body_bytes)
        else:
            message = await self._message(request, route, kind, values, call)
        peer = route.peer or self._upstream.peer_of(route, message)
        options = {"metadata": call.metadata, "timeout_s": call.timeout_s}
        if method.server_streaming:
            answers = self._upstream.stream(route, peer, message, **options)  # type: ignore[arg-type]
            return await streamed(answers, call, heartbeat_s=self._config.heartbeat_s)
        answer = await self._upstream.single(route, peer, message, **options)  # type: ignore[arg-type]
        return Response(messages.json_of(answer, packed=call.wanted.packed), media_type="application/json")

    async def _message(self, request: Request, route: Route, kind: Any, values: dict[str, str], call: Call) -> Any:
        data = await bodies.whole(request, self._config.body_bytes)
        if data.strip() and not route.body:
            raise InvalidArgument("this call takes its fields in the path and the query, not in a body")
        return messages.request_of(
            kind, variables=values, query=request.query_params.multi_items(), body=route.body,
            value=messages.body_value(data), request_id=call.idempotency_key,
        )  # fmt: skip


def application(gateway: Gateway, document: bytes, conditions: Conditions) -> Starlette:
    """The web application; ``document`` is the OpenAPI text."""

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def health(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def ready(request: Request) -> Response:
        found = await conditions()
        wrong = "strict" in request.query_params and any(found.values())
        return JSONResponse({"ready": not wrong, "conditions": found}, status_code=503 if wrong else 200)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(telemetry.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    own = {"/openapi.json": openapi, "/healthz": health, "/readyz": ready, "/metrics": metrics}
    paths = [Path(path, answer, methods=["GET"]) for path, answer in own.items()]
    paths.append(Path("/{path:path}", gateway.answer, methods=_VERBS))
    return Starlette(routes=paths)


def _failed(error: Exception, route: Route, request_id: str) -> Problem:
    """The problem of any failure; what is not meant for callers is logged and kept back."""
    if isinstance(error, PerennialError):
        return problem_of(error, request_id)
    if isinstance(error, ClientDisconnect):
        return Problem("CANCELLED", "the caller went away", request_id)
    _LOG.error("a call failed", method=route.path, request_id=request_id, exc_info=error)
    return Problem("INTERNAL", f"internal error (request {request_id})", request_id)


def _raw_path(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.split(b"?")[0].decode("latin-1")


def _no_route(request: Request, verbs: list[str], request_id: str) -> Problem:
    path = request.url.path
    if verbs:
        return Problem("UNIMPLEMENTED", f"{path} takes {', '.join(verbs)}, not {request.method}", request_id, 405)
    return Problem("NOT_FOUND", f"there is no route {path}; /openapi.json lists them all", request_id)


def _problem(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    more = {REQUEST_ID: problem.request_id, **problem.headers, **(headers or {})}
    return JSONResponse(problem.body(), problem.http_status, more, CONTENT_TYPE)
