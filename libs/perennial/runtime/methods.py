"""What happens around every handler?

Each method is registered without a deserialiser, so one wrapper sees everything: metadata → caller → access → parse →
handler → serialise, with errors, metrics and trace, in all four call shapes. (In grpc.aio an exception in an
interceptor or a deserialiser leaves as UNKNOWN with its text.) What can be known before a call is computed before it.
"""

import asyncio
import inspect
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from perennial.errors import (
    InvalidArgument,
    PerennialError,
    PermissionDenied,
    ResourceExhausted,
    from_status,
)  # fmt: skip
from perennial.runtime import identity, requests, telemetry, tracing
from perennial.runtime.access import policy_of
from perennial.runtime.calls import CallStats, Rates
from perennial.runtime.identity import ANONYMOUS, Principal
from perennial.runtime.postgres import Postgres, translated
from perennial.runtime.tokens import Verifier

CODES = {code.name: code for code in grpc.StatusCode}
_DETAILS = 1500
_LOG = telemetry.log(__name__)
_METADATA: ContextVar[Any] = ContextVar("perennial_metadata", default=())
_set_caller = identity._CALLER.set  # noqa: SLF001 the wrapper is the one place that sets it for a call
_set_parent = tracing.enter


class Methods:
    """Makes gRPC handlers of servicers; one a server."""

    def __init__(self, verifier: Verifier, *, postgres: Postgres | None = None, calls_per_second: float = 0.0) -> None:
        self._verifier = verifier
        self.remembered = verifier.remembered
        self._postgres = postgres
        self.rates = Rates(calls_per_second) if calls_per_second else None

    def handler(self, servicer: object, service: Any, *, own_request_ids: Collection[str] = ()) -> grpc.GenericRpcHandler:
        """All methods of ``service`` (a descriptor) as ``servicer`` implements them.

        Raises ``NoPolicy`` when a method has no access option. Methods named in ``own_request_ids`` treat
        ``request_id`` themselves.
        """
        made = {}
        for method in service.methods:
            one = _Method(self, servicer, method)
            one.keeps_answers = (
                self._postgres is not None and "request_id" in method.input_type.fields_by_name
                and not method.client_streaming and not method.server_streaming and method.name not in own_request_ids
            )  # fmt: skip
            made[method.name] = one.registered()
        return _Handlers({f"/{service.full_name}/{name}": one for name, one in made.items()})

    async def admit(self, method: "_Method") -> Principal:
        """The caller, allowed to call; sets the context of the call."""
        token = parent = ""
        for name, value in _METADATA.get():
            if name == "authorization":
                token = value
            elif name == "traceparent":
                parent = value
        known = self.remembered.get(token)
        if known is not None and known[1] > perf_counter():
            who = known[0]
        elif method.public and not token:
            who = ANONYMOUS
        else:
            who = await self._verifier.verify(token)
        if not method.public and method.roles.isdisjoint(who.roles):
            allowed = ", ".join(sorted(method.roles))
            raise PermissionDenied(f"{method.name}: {who.name} has none of the roles {allowed}")
        if self.rates is not None and not self.rates.admits(who.name):
            raise ResourceExhausted(f"{who.name} calls more often than {self.rates.per_second:g} times a second")
        _set_caller(who)
        _set_parent(parent)
        return who

    async def once(self, method: "_Method", request: Any, who: Principal, work: Callable[[], Any]) -> bytes:
        """The answer to a command with a request id."""
        assert self._postgres is not None
        body = request.SerializeToString(deterministic=True)
        return await requests.once(
            self._postgres, method=method.name, who=who, request_id=request.request_id, body=body, work=work
        )


class _Handlers(grpc.GenericRpcHandler):
    """Finds the method of a call. gRPC has its metadata decoded here, and would decode it again for the handler."""

    def __init__(self, methods: dict[str, Any]) -> None:
        self._methods = methods

    def service(self, handler_call_details: Any) -> Any:
        """The handler, or None when the method is another service's."""
        found = self._methods.get(handler_call_details.method)
        if found is not None:
            _METADATA.set(handler_call_details.invocation_metadata or ())
        return found


class _Method:
    """One method with everything known before a call."""

    def __init__(self, methods: Methods, servicer: object, descriptor: Any) -> None:
        policy = policy_of(descriptor)
        self.name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        self.roles, self.public = policy.roles, policy.public
        self.keeps_answers = False
        self._methods = methods
        self._parse = descriptor.input_type._concrete_class.FromString  # noqa: SLF001 protobuf's way from descriptor to class
        self._request = descriptor.input_type.name
        self._handler: Any = getattr(servicer, descriptor.name)
        self._streams = (descriptor.client_streaming, descriptor.server_streaming)
        self._stats = CallStats.of(self.name)
        wanted = inspect.isasyncgenfunction if descriptor.server_streaming else inspect.iscoroutinefunction
        if not wanted(self._handler):
            kind = "an async generator" if descriptor.server_streaming else "an async function"
            raise TypeError(f"{type(servicer).__name__}.{descriptor.name} must be {kind}")

    def registered(self) -> Any:
        """The handler gRPC calls with bytes."""
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[self._streams]
        behaviour: Any = self._streaming if self._streams[1] else self._traced if tracing.enabled() else self._single
        if self._streams == (False, False) and not tracing.enabled():
            behaviour = self._fast()
        return make(behaviour)

    def parsed(self, raw: bytes) -> Any:
        """The request message; ``InvalidArgument`` when the bytes are none."""
        try:
            return self._parse(raw)
        except DecodeError:
            raise InvalidArgument(f"the body is not a {self._request}") from None

    def _fast(self) -> Callable[[bytes, Any], Any]:
        """The single call shape without spans, with every attribute bound: it lies on Predict's path."""
        admit, handler, parse, stats, failed = self._methods.admit, self._handler, self._parse, self._stats, self._failed
        observe, keeps, roles, public = stats.observe, self.keeps_answers, self.roles, self.public
        remembered, limited = self._methods.remembered, self._methods.rates is not None

        async def call(raw: bytes, context: Any) -> bytes:
            begin = perf_counter()
            stats.open += 1
            try:
                token = parent = ""
                for name, value in _METADATA.get():
                    if name == "authorization":
                        token = value
                    elif name == "traceparent":
                        parent = value
                known = remembered.get(token)
                if known is None or known[1] <= begin or limited or (not public and roles.isdisjoint(known[0].roles)):
                    who = await admit(self)
                else:
                    who = known[0]
                    _set_caller(who)
                    _set_parent(parent)
                try:
                    request = parse(raw)
                except DecodeError:
                    raise InvalidArgument(f"the body is not a {self._request}") from None
                if keeps and request.request_id:
                    answer: bytes = await self._kept(request, context, who)
                else:
                    answer = (await handler(request, context)).SerializeToString()
            except BaseException as error:
                await failed(error, context, begin)
                raise
            else:
                observe(perf_counter() - begin)
                return answer
            finally:
                stats.open -= 1

        return call

    async def _traced(self, raw: bytes, context: Any) -> bytes:
        _set_parent(_metadatum("traceparent"))
        with tracing.span(self.name, server=True):
            return bytes(await self._single(raw, context))

    async def _single(self, request: Any, context: Any) -> bytes:
        """One answer: to one request (bytes) or to a stream of them."""
        begin = perf_counter()
        self._stats.open += 1
        try:
            who = await self._methods.admit(self)
            message: Any = self._each(request) if self._streams[0] else self.parsed(request)
            if self.keeps_answers and message.request_id:
                answer = await self._kept(message, context, who)
            else:
                answer = (await self._handler(message, context)).SerializeToString()
        except BaseException as error:
            await self._failed(error, context, begin)
            raise
        else:
            self._stats.observe(perf_counter() - begin)
            return bytes(answer)
        finally:
            self._stats.open -= 1

    async def _streaming(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        """Many answers: to one request (bytes) or to a stream of them."""
        begin = perf_counter()
        self._stats.open += 1
        try:
            await self._methods.admit(self)
            message = self._each(request) if self._streams[0] else self.parsed(request)
            async for answer in self._handler(message, context):
                yield answer.SerializeToString()
        except GeneratorExit:
            raise
        except BaseException as error:
            await self._failed(error, context, begin)
            raise
        else:
            self._stats.observe(perf_counter() - begin)
        finally:
            self._stats.open -= 1

    async def _each(self, raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in raws:
            yield self.parsed(raw)

    async def _kept(self, request: Any, context: Any, who: Principal) -> bytes:
        async def work() -> bytes:
            return bytes((await self._handler(request, context)).SerializeToString())

        return await self._methods.once(self, request, who, work)

    async def _failed(self, error: BaseException, context: Any, begin: float) -> None:
        """Count the failure and abort the call with its status, unless that was done or the caller is gone."""
        status, details = self._status(error, context)
        self._stats.failed(status, perf_counter() - begin)
        if details is not None:
            await context.abort(CODES.get(status, grpc.StatusCode.INTERNAL), details[:_DETAILS])

    def _status(self, error: BaseException, context: Any) -> tuple[str, str | None]:
        """The status an error leaves with and its text; no text when the status is sent or nobody listens."""
        if isinstance(error, asyncio.CancelledError):
            return "CANCELLED", None
        if isinstance(error, grpc.aio.AbortError):
            code = context.code()
            return (code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"), None
        known = _known(error)
        if known is not None:
            return known.status, known.message
        request_id = (_metadatum("x-request-id") or secrets.token_hex(8))[:64]
        _LOG.error("a call failed", method=self.name, request_id=request_id, exc_info=error)
        return "INTERNAL", f"internal error (request {request_id})"


def _known(error: BaseException) -> PerennialError | None:
    """The error as one whose text may leave, or None."""
    if isinstance(error, PerennialError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return from_status(error.code().name, error.details() or "")
    if "asyncpg" in sys.modules and type(error).__module__.startswith("asyncpg"):
        meaning = translated(error)
        return meaning if isinstance(meaning, PerennialError) else None
    return None


def _metadatum(wanted: str) -> str:
    for name, value in _METADATA.get():
        if name == wanted:
            return value if isinstance(value, str) else ""
    return ""
