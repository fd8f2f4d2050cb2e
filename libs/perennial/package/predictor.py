"""How is a packaged model asked?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.frames import Table, Text
from perennial.package.artifact import ModelPackage
from perennial.package.manifest import MODEL, Manifest
from perennial.package.safety import refuse_external_data
from perennial.package.signature import Signature, Task

NUMBERS = "numbers"
TEXTS = "texts"
PREDICTION = "prediction"
PROBABILITIES = "probabilities"


class Predictor:
    """A model loaded on the CPU with one thread; safe to call from several threads."""

    def __init__(self, manifest: Manifest, graph: bytes) -> None:
        self.manifest = manifest
        self.signature: Signature = manifest.signature
        self._session = session(graph)
        # onnxruntime's own run() checks its feeds in Python, half of a small call; ours are right by construction.
        self._run = getattr(self._session, "_sess", self._session).run
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._output = PREDICTION if self.signature.task is Task.REGRESSION else PROBABILITIES
        expected = {name for name, some in ((NUMBERS, self.signature.number_names), (TEXTS, self.signature.text_names)) if some}
        if self._inputs != expected:
            raise InvalidArgument(f"{MODEL} takes {sorted(self._inputs)}, and its signature gives {sorted(expected)}")
        if self._output not in {o.name for o in self._session.get_outputs()}:
            raise InvalidArgument(f"{MODEL} has no output {self._output!r}")

    def predict(self, table: Table, *, checked: bool = False) -> Table:
        """The outputs of these rows; InvalidArgument when they do not fit the signature. ``checked``: they were checked."""
        rows = table if checked else self.signature.check(table)
        outputs = self.run(rows)
        if self._output == PREDICTION:
            return Table(rows.rows, (PREDICTION,), outputs, {})
        labels = Text(outputs.argmax(axis=1).astype(np.int32), self.signature.classes)
        return Table(rows.rows, self.signature.probability_names, outputs, {"label": labels})

    def run(self, rows: Table) -> NDArray[np.float32]:
        """The graph's own output for rows in signature order: float32, rows x 1 or rows x classes."""
        feeds: dict[str, NDArray[Any]] = {}
        if NUMBERS in self._inputs:
            feeds[NUMBERS] = np.ascontiguousarray(rows.numbers, dtype=np.float32)
        if TEXTS in self._inputs:
            feeds[TEXTS] = text_matrix(rows, self.signature.text_names)
        output: NDArray[np.float32] = self._run([self._output], feeds, None)[0]
        return output


def text_matrix(rows: Table, names: tuple[str, ...]) -> NDArray[np.object_]:
    """The texts as the graph takes them: rows x columns, null as the empty string."""
    matrix = np.empty((rows.rows, len(names)), dtype=object)
    for place, name in enumerate(names):
        text = rows.texts[name]
        if rows.rows == 1:
            code = text.codes[0]
            matrix[0, place] = text.values[code] if code >= 0 else ""
        else:
            matrix[:, place] = np.array((*text.values, ""), dtype=object)[text.codes]
    return matrix


def session(graph: bytes) -> Any:
    """A runtime for a graph: CPU, one thread; InvalidArgument when the graph cannot be used or reaches outside itself."""
    import onnxruntime

    refuse_external_data(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 the runtime has a class an error code, all of them ours to name
        raise InvalidArgument(f"the ONNX graph cannot be loaded: {str(error).splitlines()[0]}") from None


def load(folder: Path) -> Predictor:
    """The model in ``folder``, every digest verified before anything is opened; errors as ``ModelPackage.read``."""
    return open_package(ModelPackage.read(folder))


def open_package(package: ModelPackage) -> Predictor:
    """The model of a package; InvalidArgument when it holds no ``model.onnx`` or the graph does not fit the signature."""
    if MODEL not in package.contents:
        raise InvalidArgument(f"the package holds no {MODEL}; there are {', '.join(sorted(package.contents)) or 'no files'}")
    return Predictor(package.manifest, package.contents[MODEL])
