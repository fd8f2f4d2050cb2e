"""A service with all four call shapes, made from descriptors: what the wrapper's tests call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from perennial.v1 import access_pb2

_FILE = "tests/echo.proto"
_SHAPES = {
    "Single": (False, False), "Down": (False, True), "Up": (True, False), "Both": (True, True), "Closed": (False, False),
    "Public": (False, False),
}  # fmt: skip


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name=_FILE, package="tests", syntax="proto3", dependency=[access_pb2.DESCRIPTOR.name]
    )
    for name in ("EchoRequest", "EchoResponse"):
        message = file.message_type.add(name=name)
        for number, field in enumerate(("text", "request_id"), 1):
            message.field.add(name=field, number=number, type=9, label=1, json_name=field)
    service = file.service.add(name="EchoService")
    for name, (up, down) in _SHAPES.items():
        method = service.method.add(
            name=name,
            input_type=".tests.EchoRequest",
            output_type=".tests.EchoResponse",
            client_streaming=up,
            server_streaming=down,
        )
        access = method.options.Extensions[access_pb2.access]
        if name == "Public":
            access.public = True
        else:
            access.roles.append("approver" if name == "Closed" else "viewer")
    bare = file.service.add(name="BareService")
    bare.method.add(name="Single", input_type=".tests.EchoRequest", output_type=".tests.EchoResponse")
    return file


def _descriptors() -> Any:
    pool = descriptor_pool.Default()
    try:
        return pool.FindFileByName(_FILE)
    except KeyError:
        return pool.FindFileByName(pool.AddSerializedFile(_file().SerializeToString()).name)


FILE = _descriptors()
SERVICE = FILE.services_by_name["EchoService"]
BARE = FILE.services_by_name["BareService"]
EchoRequest: Any = message_factory.GetMessageClass(FILE.message_types_by_name["EchoRequest"])
EchoResponse: Any = message_factory.GetMessageClass(FILE.message_types_by_name["EchoResponse"])

Act = Callable[[Any], Awaitable[str]]


class Echo:
    """Answers what ``act`` makes of a request's text."""

    def __init__(self, act: Act) -> None:
        self.act = act

    async def Single(self, request: Any, context: Any) -> Any:
        return EchoResponse(text=await self.act(request))

    Closed = Single
    Public = Single

    async def Down(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(2):
            yield EchoResponse(text=await self.act(request))

    async def Up(self, request_iterator: Any, context: Any) -> Any:
        return EchoResponse(text=",".join([await self.act(request) async for request in request_iterator]))

    async def Both(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for request in request_iterator:
            yield EchoResponse(text=await self.act(request))
