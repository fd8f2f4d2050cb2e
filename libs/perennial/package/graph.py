"""How is an ONNX graph put together so that the same model always gives the same bytes?

Graphs start from the raw named columns (inputs ``numbers`` and ``texts``) and end in ``prediction`` or ``probabilities``.
Names are counted, nothing is stamped with a time or a random id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.package.predictor import NUMBERS, PREDICTION, PROBABILITIES, TEXTS
from perennial.package.signature import Signature, Task

OPSET = 17
ML_OPSET = 3
IR_VERSION = 8
ML = "ai.onnx.ml"


class GraphBuilder:
    """Nodes in the order they are added; every method gives the name of the value it makes."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any) -> str:
        """The result of one operator."""
        from onnx import helper

        name = output or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=f"n{len(self._nodes)}", domain=domain, **attributes))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """A tensor that is part of the model."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def floats(self, values: Sequence[float] | NDArray[Any]) -> str:
        """A tensor of 32-bit floats."""
        return self.constant(np.asarray(values, dtype=np.float32))

    def text_column(self, place: int) -> str:
        """One text column, N x 1."""
        return self.add("Gather", TEXTS, self.constant(np.array([place], dtype=np.int64)), axis=1)

    def text_code(self, place: int, codes: dict[str, float], default: float = float("nan")) -> str:
        """One text column as numbers, N x 1; null and what is not in ``codes`` become ``default``."""
        known = codes or {"": default}
        column = self.text_column(place)
        return self.add(
            "LabelEncoder", column, domain=ML,
            keys_strings=list(known), values_floats=[float(v) for v in known.values()], default_float=default,
        )  # fmt: skip

    def side_by_side(self, parts: Sequence[str]) -> str:
        """Matrices joined by columns."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)

    def probabilities_of(self, margins: str, classes: int) -> str:
        """The output ``probabilities`` from margins: N x 1 through the logistic function for two classes, else softmax."""
        if classes > 2:
            return self.add("Softmax", margins, axis=1, output=PROBABILITIES)
        positive = self.add("Sigmoid", margins)
        negative = self.add("Sigmoid", self.add("Neg", margins))
        return self.add("Concat", negative, positive, axis=1, output=PROBABILITIES)

    def finished(self, signature: Signature) -> bytes:
        """The model's bytes: checked, with the inputs and the output its signature asks for."""
        import onnx
        from onnx import TensorProto, helper

        inputs = []
        if signature.number_names:
            inputs.append(helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, [None, len(signature.number_names)]))
        if signature.text_names:
            inputs.append(helper.make_tensor_value_info(TEXTS, TensorProto.STRING, [None, len(signature.text_names)]))
        regression = signature.task is Task.REGRESSION
        name, width = (PREDICTION, 1) if regression else (PROBABILITIES, len(signature.classes))
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])]
        graph = helper.make_graph(self._nodes, "model", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="perennial")
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
