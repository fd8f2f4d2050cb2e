"""The floor of a call: a grpc.aio server with uvloop that answers nothing to nothing. Prints its port."""

import asyncio

import grpc
import uvloop


async def main() -> None:
    """Serve until killed."""

    async def call(_request: bytes, _context: object) -> bytes:
        return b""

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("empty.Empty", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
