"""What does the runtime's wrapper add to an empty grpc.aio call? Prints ``id  name  ours  floor  ratio``.

One server, two methods: an empty one registered with gRPC directly, and one behind the wrapper with a verified token,
access, parsing, metrics and trace. Calls alternate in short rounds, so both meet the same machine.
"""

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop
from perennial.runtime import secrets
from perennial.runtime.config import ServiceConfig
from perennial.runtime.methods import Methods
from perennial.runtime.tokens import ServiceKey, Verifier

from tests.runtime.echo import SERVICE, Echo, EchoRequest

ROUNDS, CALLS, CALLERS = 30, 300, 16


class Config(ServiceConfig):
    """Enough of a service."""

    service = "bench"
    needs_database = False


async def _answer(request: object) -> str:
    return "answer"


async def main() -> None:
    folder = Path(tempfile.mkdtemp())
    secrets.ensure(folder)
    config = Config.load(secrets_dir=folder)
    verifier = Verifier(config, ServiceKey(config.secret("service_key", "service-key")))

    async def empty(raw: bytes, context: object) -> bytes:
        return b"\x0a\x06answer"

    server = grpc.aio.server()
    direct = grpc.method_handlers_generic_handler("bench.Empty", {"Call": grpc.unary_unary_rpc_method_handler(empty)})
    server.add_generic_rpc_handlers((Methods(verifier).handler(Echo(_answer), SERVICE), direct))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    body = EchoRequest(text="x" * 200).SerializeToString()
    metadata = (("authorization", f"Bearer {config.secret('admin_token', 'admin-token')}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        floor: Any
        ours: Any
        floor, ours = channel.unary_unary("/bench.Empty/Call"), channel.unary_unary("/tests.EchoService/Single")
        times: dict[str, list[float]] = {"floor": [], "ours": []}
        cpu = {"floor": 0.0, "ours": 0.0}
        for number in range(ROUNDS):
            order = [("floor", floor), ("ours", ours)]
            for name, call in order if number % 2 else reversed(order):
                for _ in range(CALLS):
                    begin = time.perf_counter()
                    await call(body, metadata=metadata)
                    if number:
                        times[name].append(time.perf_counter() - begin)
                used = resource.getrusage(resource.RUSAGE_SELF)

                async def caller(call: Any = call) -> None:
                    for _ in range(CALLS // CALLERS):
                        await call(body, metadata=metadata)

                await asyncio.gather(*(caller() for _ in range(CALLERS)))
                after = resource.getrusage(resource.RUSAGE_SELF)
                cpu[name] += after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    a, b = statistics.median(times["ours"]) * 1e6, statistics.median(times["floor"]) * 1e6
    print(f"S01w  wrapper p50, one caller, µs            {a:7.1f} {b:7.1f}  {a / b:.3f}")
    n = ROUNDS * (CALLS // CALLERS) * CALLERS / 1e6
    a, b = cpu["ours"] / n, cpu["floor"] / n
    print(f"S02w  wrapper CPU a call, 16 callers, µs     {a:7.1f} {b:7.1f}  {a / b:.3f}")
    await server.stop(None)


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
