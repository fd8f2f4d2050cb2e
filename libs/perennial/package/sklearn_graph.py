"""How does a scikit-learn model become a graph that takes the raw columns?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from perennial.errors import InvalidArgument
from perennial.package.graph import ML_OPSET, OPSET
from perennial.package.predictor import NUMBERS, PREDICTION, PROBABILITIES, TEXTS
from perennial.package.signature import ColumnType, Signature, Task


def convert(model: Any, signature: Signature) -> bytes:
    """The graph of a fitted scikit-learn model or pipeline; InvalidArgument when skl2onnx cannot convert it."""
    if clash := {NUMBERS, TEXTS, PREDICTION, PROBABILITIES} & {c.name for c in signature.columns}:
        raise InvalidArgument(f"a column of a scikit-learn pipeline cannot be called {', '.join(sorted(clash))}")
    converted = _converted(model, signature)
    graph = converted.graph
    if signature.text_names:
        _split_inputs(graph, signature)
    _name_output(graph, signature)
    graph.name = "model"
    data: bytes = converted.SerializeToString(deterministic=True)
    return data


def _converted(model: Any, signature: Signature) -> Any:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    if signature.text_names:
        types = [
            (c.name, FloatTensorType([None, 1]) if c.type is ColumnType.NUMBER else StringTensorType([None, 1]))
            for c in signature.columns
        ]
    else:
        types = [(NUMBERS, FloatTensorType([None, len(signature.number_names)]))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converter's own deprecations
            return skl2onnx.convert_sklearn(
                model, initial_types=types, options=_options(model, signature), target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET}
            )
    except Exception as error:  # the converter raises a dozen kinds
        raise InvalidArgument(f"{type(model).__name__} cannot be exported to ONNX: {error}") from error


def _options(model: Any, signature: Signature) -> dict[int, dict[str, Any]]:
    """Scaling divides as scikit-learn does (multiplying by 1/scale moves rows across splits); probabilities stay a matrix."""
    from sklearn.preprocessing import StandardScaler

    options: dict[int, dict[str, Any]] = {id(part): {"div": "div"} for part in _parts(model) if isinstance(part, StandardScaler)}
    if signature.task is Task.CLASSIFICATION:
        options[id(model)] = {"zipmap": False}
    return options


def _parts(model: Any) -> list[Any]:
    """The model and everything inside it."""
    inner = [part for _, part in getattr(model, "steps", [])]
    inner += [part for _, part, _ in getattr(model, "transformers_", [])]
    return [model, *(deep for part in inner for deep in _parts(part))]


def _split_inputs(graph: Any, signature: Signature) -> None:
    """Take ``numbers`` and ``texts`` instead of one input a column."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    for matrix, names in ((NUMBERS, signature.number_names), (TEXTS, signature.text_names)):
        for place, name in enumerate(names):
            index = f"{matrix}_{place}"
            graph.initializer.append(numpy_helper.from_array(np.array([place], dtype=np.int64), index))
            nodes.append(helper.make_node("Gather", [matrix, index], [name], name=f"take_{index}", axis=1))
    del graph.input[:]
    if signature.number_names:
        graph.input.append(helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, [None, len(signature.number_names)]))
    graph.input.append(helper.make_tensor_value_info(TEXTS, TensorProto.STRING, [None, len(signature.text_names)]))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _name_output(graph: Any, signature: Signature) -> None:
    """Give the one output the name and shape of our contract."""
    from onnx import TensorProto, helper, numpy_helper

    found = [o.name for o in graph.output]
    wanted, width = (PREDICTION, 1) if signature.task is Task.REGRESSION else (PROBABILITIES, len(signature.classes))
    source = found[0] if signature.task is Task.REGRESSION else found[-1]
    graph.initializer.append(numpy_helper.from_array(np.array([-1, width], dtype=np.int64), "output_shape"))
    if source == wanted:
        for node in graph.node:
            for place, name in enumerate(node.output):
                if name == wanted:
                    node.output[place] = f"{wanted}_raw"
        source = f"{wanted}_raw"
    graph.node.append(helper.make_node("Reshape", [source, "output_shape"], [wanted], name="name_output"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(wanted, TensorProto.FLOAT, [None, width]))
