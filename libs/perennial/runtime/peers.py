"""How does a service call another one?

``await peers.registry.GetModel(request)`` with the service's token, a deadline, the trace, and failures as
:mod:`perennial.errors`. Reads are repeated when the peer is unavailable; commands are not (they carry request ids, the
caller decides).
"""

import asyncio
import importlib
import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

from perennial import errors, metrics
from perennial.runtime import telemetry, tracing

if TYPE_CHECKING:
    from perennial.runtime.config import ServiceConfig
    from perennial.v1 import (
        feature_pb2_grpc,
        monitor_pb2_grpc,
        registry_pb2_grpc,
        serving_pb2_grpc,
        trainer_pb2_grpc,
    )  # fmt: skip

DEADLINE_S = 10.0
STREAM_DEADLINE_S = 600.0
ATTEMPTS = 4
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),
]


class Peers:
    """Typed stubs of the other services; channels are opened at first use."""

    def __init__(self, config: "ServiceConfig", token: Callable[[], str]) -> None:
        self._config = config
        self._token = token
        self._peers: dict[str, Peer] = {}

    @property
    def registry(self) -> "registry_pb2_grpc.RegistryServiceAsyncStub":
        """Models, versions, aliases, events, API keys."""
        return cast("registry_pb2_grpc.RegistryServiceAsyncStub", self.peer("registry"))

    @property
    def feature(self) -> "feature_pb2_grpc.FeatureServiceAsyncStub":
        """Features online and point in time."""
        return cast("feature_pb2_grpc.FeatureServiceAsyncStub", self.peer("feature"))

    @property
    def trainer(self) -> "trainer_pb2_grpc.TrainerServiceAsyncStub":
        """Jobs and runs."""
        return cast("trainer_pb2_grpc.TrainerServiceAsyncStub", self.peer("trainer"))

    @property
    def serving(self) -> "serving_pb2_grpc.ServingServiceAsyncStub":
        """Deployments and predictions."""
        return cast("serving_pb2_grpc.ServingServiceAsyncStub", self.peer("serving"))

    @property
    def monitor(self) -> "monitor_pb2_grpc.MonitorServiceAsyncStub":
        """Windows, reports, decisions."""
        return cast("monitor_pb2_grpc.MonitorServiceAsyncStub", self.peer("monitor"))

    @property
    def explainer(self) -> Any:
        """Explanations."""
        return self.peer("explainer")

    def peer(self, name: str) -> Any:
        """The service called ``name``."""
        if name not in self._peers:
            self._peers[name] = Peer(name, getattr(self._config, f"{name}_address"), self._token, self._config)
        return self._peers[name]

    async def close(self) -> None:
        """Close every channel."""
        for peer in self._peers.values():
            await peer.close()
        self._peers.clear()


class Peer:
    """One service; its methods are those of its RPC service."""

    def __init__(self, name: str, address: str, token: Callable[[], str], config: "ServiceConfig | None" = None) -> None:
        module = importlib.import_module(f"perennial.v1.{name}_pb2")
        self._service = module.DESCRIPTOR.services_by_name[f"{name.capitalize()}Service"]
        self._channel: Any = open_channel(address, config)
        self._token = token

    def __getattr__(self, method: str) -> Any:
        """The call of one RPC, kept for the next time."""
        descriptor = self._service.methods_by_name.get(method)
        if descriptor is None:
            raise AttributeError(f"{self._service.full_name} has no method {method}")
        call = _Call(self._channel, descriptor, self._token)
        made = call.stream if descriptor.server_streaming else call.single
        self.__dict__[method] = made
        return made

    async def close(self) -> None:
        """Close the channel; running calls are cancelled."""
        await self._channel.close(grace=None)


def open_channel(address: str, config: "ServiceConfig | None" = None) -> Any:
    """A channel to a service of the platform; with mutual TLS when the settings name a certificate."""
    import grpc

    if config is None or config.tls_certificate is None or config.tls_key is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    ca = config.tls_ca.read_bytes() if config.tls_ca else None
    credentials = grpc.ssl_channel_credentials(ca, config.tls_key.read_bytes(), config.tls_certificate.read_bytes())
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


class _Call:
    """One RPC of a peer with everything a call needs around it."""

    def __init__(self, channel: Any, method: Any, token: Callable[[], str]) -> None:
        shape = ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary")
        answer = method.output_type._concrete_class  # noqa: SLF001 protobuf's own way from descriptor to class
        self._name = f"{method.containing_service.full_name}/{method.name}"
        self._callable = getattr(channel, shape)(
            f"/{self._name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        self._token = token
        self._attempts = ATTEMPTS if _is_read(method) and not method.client_streaming else 1

    def _metadata(self, extra: Any) -> tuple[tuple[str, str], ...]:
        own = (("authorization", f"Bearer {self._token()}"), ("traceparent", tracing.traceparent()))
        return own + tuple(extra or ())

    async def single(self, request: Any, *, timeout: float = DEADLINE_S, metadata: Any = None) -> Any:
        import grpc

        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        for attempt in range(1, self._attempts + 1):
            try:
                answer = await self._callable(request, timeout=max(end - loop.time(), 0.001), metadata=self._metadata(metadata))
            except grpc.aio.AioRpcError as error:
                failure = self._failed(error)
                wait = min(0.1 * 2**attempt, 1.0) * random.uniform(0.5, 1.0)  # noqa: S311 spreads callers, hides nothing
                if not isinstance(failure, errors.Unavailable) or attempt == self._attempts or loop.time() + wait >= end:
                    raise failure from error
                await asyncio.sleep(wait)
            else:
                telemetry.metric(metrics.PEER_CALLS).labels(self._name, "OK").inc()
                return answer
        raise AssertionError("unreachable")

    async def stream(self, request: Any, *, timeout: float = STREAM_DEADLINE_S, metadata: Any = None) -> AsyncIterator[Any]:
        import grpc

        try:
            async for answer in self._callable(request, timeout=timeout, metadata=self._metadata(metadata)):
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from error

    def _failed(self, error: Any) -> errors.PerennialError:
        status = error.code().name
        telemetry.metric(metrics.PEER_CALLS).labels(self._name, status).inc()
        service = self._name.split("/")[0].rsplit(".", 1)[-1]
        return errors.from_status(status, error.details() or f"{service} gave {status}")


def _is_read(method: Any) -> bool:
    """A method whose route is a GET changes nothing."""
    from google.api import annotations_pb2

    options = method.GetOptions()
    return bool(options.HasExtension(annotations_pb2.http) and options.Extensions[annotations_pb2.http].get)
