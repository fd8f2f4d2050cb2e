"""The gateway: ``python -m services.gateway``."""

from functools import partial

from perennial.runtime.service import Runtime, run

from services.gateway.config import GatewayConfig
from services.gateway.service import application
from services.gateway.service.app import Gateway
from services.gateway.service.server import HttpServer
from services.gateway.service.upstream import Upstream
from services.gateway.wire import catalogue
from services.gateway.wire.openapi import document


async def build(runtime: Runtime) -> None:
    """Put the gateway together."""
    config: GatewayConfig = runtime.config
    routes, upstream = catalogue.routes(), Upstream(config, lambda: runtime.port)
    app = application(Gateway(config, routes, upstream), document(routes), runtime.conditions.now)
    http = HttpServer(app, host=config.host, port=config.http_port, grace_s=config.grace_s)
    for peer in dict.fromkeys(route.peer for route in routes.all if route.peer):
        runtime.condition(peer, partial(upstream.reachable, peer))
    runtime.on_stop("drained", http.stop)
    runtime.on_stop("clients", upstream.close)
    await http.start()
    runtime.log.info("HTTP", port=http.port)


if __name__ == "__main__":
    run(GatewayConfig, build)
