"""Small models with known answers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from perennial.package import Column, ColumnType, Manifest, ModelPackage, Signature, Task
from perennial.package.graph import GraphBuilder
from perennial.package.signature import Pii
from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2 as registry

DISTRICTS = {"north": 10.0, "south": 20.0}
COLUMNS = (
    Column("rooms", ColumnType.NUMBER, nullable=False),
    Column("area", ColumnType.NUMBER),
    Column("district", ColumnType.TEXT),
)


def signature(*, pii: Pii = Pii.NONE) -> Signature:
    """Rooms, area, district."""
    return Signature.of([*COLUMNS[:2], Column("district", ColumnType.TEXT, pii=pii)])


def _column(graph: GraphBuilder, matrix: str, place: int) -> str:
    start, stop, axis = (graph.constant(np.array([at])) for at in (place, place + 1, 1))
    return graph.add("Slice", matrix, start, stop, axis)


def prices(factor: float = 1.0, *, failing: str = "", pii: Pii = Pii.NONE, slow: int = 0) -> ModelPackage:
    """``factor * (rooms + district's price)``; ``failing``: nan where rooms > 5, or shape for two rows too few columns.

    ``slow`` multiplies matrices of that size, so that a call takes its time.
    """
    taken = signature(pii=pii)
    graph = GraphBuilder()
    rooms, area = _column(graph, "numbers", 0), _column(graph, "numbers", 1)
    known = graph.add("Where", graph.add("IsNaN", area), graph.floats([0.0]), area)
    price = graph.add("Add", rooms, graph.text_code(0, DISTRICTS, default=0.0))
    price = graph.add("Add", price, graph.add("Mul", known, graph.floats([0.0])))
    if failing == "nan":
        big = graph.add("Greater", rooms, graph.floats([5.0]))
        price = graph.add("Where", big, graph.floats([float("nan")]), price)
    if failing == "throws":
        # Rows cannot be put into a shape of seven columns.
        price = graph.add("Reshape", price, graph.constant(np.array([-1, 7])))
        price = _column(graph, price, 0)
    if slow:
        square = graph.constant(np.eye(slow, dtype=np.float32))
        for _ in range(4):
            square = graph.add("MatMul", square, square)
        nothing = graph.add("Mul", graph.add("ReduceMean", square, keepdims=1), graph.floats([0.0]))
        price = graph.add("Add", price, nothing)
    graph.add("Mul", price, graph.floats([factor]), output="prediction")
    manifest = Manifest(framework="onnx", algorithm="linear", signature=taken)
    return ModelPackage.of(manifest, {"model.onnx": graph.finished(taken)})


def classes() -> ModelPackage:
    """Three classes by softmax of x, 0 and -x."""
    taken = Signature.of([Column("x", ColumnType.NUMBER)], Task.CLASSIFICATION, ["high", "middle", "low"])
    graph = GraphBuilder()
    margins = graph.add("MatMul", "numbers", graph.floats(np.array([[1.0, 0.0, -1.0]])))
    graph.probabilities_of(margins, 3)
    return ModelPackage.of(Manifest(framework="onnx", algorithm="linear", signature=taken), {"model.onnx": graph.finished(taken)})


def plain(columns: int = 20) -> ModelPackage:
    """A weighted sum of so many numbers."""
    taken = Signature.of([Column(f"x{i}", ColumnType.NUMBER) for i in range(columns)])
    graph = GraphBuilder()
    weights = np.arange(1, columns + 1, dtype=np.float32).reshape(columns, 1)
    graph.add("MatMul", "numbers", graph.constant(weights), output="prediction")
    return ModelPackage.of(Manifest(framework="onnx", algorithm="linear", signature=taken), {"model.onnx": graph.finished(taken)})


def upload(
    name: str, made: ModelPackage, *, lineage: Mapping[str, Any] | None = None, first_alias: str = "champion"
) -> Iterator[registry.RegisterModelVersionRequest]:
    """The messages that register a version."""
    files = [common.FileEntry(name=f.name, sha256=f.sha256, size=f.size) for f in made.entries]
    header = registry.RegisterHeader(name=name, files=files, lineage=registry.Lineage(**(lineage or {})), first_alias=first_alias)
    yield registry.RegisterModelVersionRequest(header=header)
    for entry in made.entries:
        yield registry.RegisterModelVersionRequest(chunk=made.data(entry.name))


def rows(count: int, *, first: int = 1, districts: Sequence[str] = ("north", "south")) -> dict[str, list[Any]]:
    """Rows with rooms 1, 2, 3, 4, 5, 1, …"""
    return {
        "rooms": [float((first + i - 1) % 5 + 1) for i in range(count)],
        "area": [None if i % 7 == 0 else 10.0 * i for i in range(count)],
        "district": [districts[i % len(districts)] for i in range(count)],
    }


def expected(asked: Mapping[str, Sequence[Any]], factor: float = 1.0) -> list[float]:
    """What :func:`prices` answers."""
    return [factor * (room + DISTRICTS[district]) for room, district in zip(asked["rooms"], asked["district"], strict=True)]
