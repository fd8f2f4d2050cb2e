"""Does an ONNX graph keep to itself?

A graph may ask the runtime to read its tensors from other files (external data). A package never does that: such a graph
is refused before a runtime sees it. Only the fields that can hold a tensor are described here (numbers as in onnx.proto,
IR version 13); everything else is skipped at the parser's own speed, and serving needs no ``onnx`` package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from perennial.errors import InvalidArgument

_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {"graph": (7, "Graph"), "training_info": (20, "TrainingInfo"), "functions": (25, "Function")},
    "TrainingInfo": {"initialization": (1, "Graph"), "algorithm": (2, "Graph")},
    "Function": {"node": (7, "Node"), "attribute_proto": (11, "Attribute")},
    "Graph": {"node": (1, "Node"), "initializer": (5, "Tensor"), "sparse_initializer": (15, "Sparse")},
    "Node": {"attribute": (5, "Attribute")},
    "Attribute": {
        "t": (5, "Tensor"), "g": (6, "Graph"), "tensors": (10, "Tensor"), "graphs": (11, "Graph"),
        "sparse_tensor": (22, "Sparse"), "sparse_tensors": (23, "Sparse"),
    },
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Tensor": {"external_data": (13, ""), "data_location": (14, "int")},
}  # fmt: skip
_KINDS = {"": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES, "int": descriptor_pb2.FieldDescriptorProto.TYPE_INT32}


def _parser() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="perennial/tensors.proto", package="perennial.tensors", syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            entry = message.field.add(name=field, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED)
            entry.type = _KINDS.get(kind, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE)
            if kind not in _KINDS:
                entry.type_name = f".perennial.tensors.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("perennial.tensors.Model"))


_MODEL = _parser()


def refuse_external_data(graph: bytes) -> None:
    """InvalidArgument when ``graph`` is not an ONNX model or any tensor of it lies outside."""
    try:
        model = _MODEL.FromString(graph)
    except DecodeError:
        raise InvalidArgument("not an ONNX model: the bytes cannot be read") from None
    if not model.graph:
        raise InvalidArgument("not an ONNX model: there is no graph in it")
    for tensor in _tensors(model):
        if tensor.external_data or any(tensor.data_location):
            raise InvalidArgument("the ONNX graph keeps tensors in other files; save it with external_data=False")


def _tensors(message: Any) -> Iterator[Any]:
    if message.DESCRIPTOR.name == "Tensor":
        yield message
        return
    for field in message.DESCRIPTOR.fields:
        for part in getattr(message, field.name):
            yield from _tensors(part)
