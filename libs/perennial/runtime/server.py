"""How does a service listen?"""

import asyncio
from collections.abc import Collection
from typing import Any

import grpc

from perennial.errors import FailedPrecondition
from perennial.runtime.config import ServiceConfig
from perennial.runtime.health import Health
from perennial.runtime.http import Readiness, StatusPort
from perennial.runtime.methods import Methods
from perennial.runtime.postgres import Postgres
from perennial.runtime.tokens import Verifier

_WATCH_S = 0.2


class Server:
    """The gRPC port and the status port of a service."""

    def __init__(self, config: ServiceConfig, verifier: Verifier, readiness: Readiness) -> None:
        self._config, self._verifier = config, verifier
        self._services: list[tuple[object, Any, Collection[str]]] = []
        self._server: Any = None
        self._status = StatusPort(readiness)
        self.health = Health(config.service)
        self.port = self.metrics_port = 0

    def add(self, servicer: object, service: Any, *, own_request_ids: Collection[str] = ()) -> None:
        """Offer a service once started; refused now if it could not be."""
        Methods(self._verifier).handler(servicer, service)
        self.health.names.add(service.full_name)
        self._services.append((servicer, service, own_request_ids))

    async def start(self, postgres: Postgres | None) -> None:
        """Listen on both ports and say SERVING."""
        config = self._config
        methods = Methods(self._verifier, postgres=postgres, calls_per_second=config.calls_per_second)
        self._server = grpc.aio.server(options=_options(config))
        handlers = [methods.handler(one, service, own_request_ids=own) for one, service, own in self._services]
        handlers.append(methods.handler(self.health, Health.DESCRIPTOR))
        if config.environment == "development":
            handlers.append(_reflection(methods, [service.full_name for _, service, _ in self._services]))
        self._server.add_generic_rpc_handlers(handlers)
        address = f"{config.host}:{config.port}"
        credentials = _credentials(config)
        try:
            self.port = (
                self._server.add_secure_port(address, credentials) if credentials else self._server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise FailedPrecondition(f"{address} cannot be listened on; is another {config.service} running? ({error})") from None
        await self._server.start()
        self.metrics_port = await self._status.start(config.host, config.metrics_port)
        await self.health.set(serving=True)

    async def refuse(self) -> None:
        """Say NOT_SERVING; calls are still answered."""
        await self.health.set(serving=False)

    async def drain(self, grace_s: float) -> None:
        """Take no more calls; those running get ``grace_s``. Health watchers are let go first."""
        if self._server is not None:
            await asyncio.sleep(_WATCH_S)  # watchers hear NOT_SERVING before they are let go
            await self.health.end()
            await self._server.stop(grace_s)

    async def close(self) -> None:
        """Close the status port."""
        await self._status.stop()


def _options(config: ServiceConfig) -> list[tuple[str, Any]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.message_bytes),
        ("grpc.max_send_message_length", 64 * 1024 * 1024),
        ("grpc.max_metadata_size", config.metadata_bytes),
        ("grpc.absolute_max_metadata_size", config.metadata_bytes),
        ("grpc.max_concurrent_streams", config.concurrent_streams),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]


def _credentials(config: ServiceConfig) -> Any:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    ca = config.tls_ca.read_bytes() if config.tls_ca else None
    pair = (config.tls_key.read_bytes(), config.tls_certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


def _reflection(methods: Methods, names: list[str]) -> grpc.GenericRpcHandler:
    from grpc_reflection.v1alpha import reflection_pb2
    from grpc_reflection.v1alpha._async import ReflectionServicer

    servicer = ReflectionServicer(service_names=[*names, Health.DESCRIPTOR.full_name, "grpc.reflection.v1alpha.ServerReflection"])
    return methods.handler(servicer, reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
