"""What can be learnt when training saw one class only? That one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from perennial.frames import Table
from perennial.package.graph import GraphBuilder
from perennial.package.predictor import NUMBERS, PROBABILITIES
from perennial.package.signature import Signature

from services.trainer.algorithms.base import Fitted, Floats


@dataclass(frozen=True)
class Constant(Fitted):
    """Answers the one class that training saw, whatever the row."""

    signature: Signature
    seen: int

    def predict(self, rows: Table) -> Floats:
        """See :class:`Fitted`."""
        answer = np.zeros((rows.rows, len(self.signature.classes)))
        answer[:, self.seen] = 1.0
        return answer

    def graph(self) -> bytes:
        """See :class:`Fitted`."""
        graph = GraphBuilder()
        known = np.zeros((1, len(self.signature.classes)), dtype=np.float32)
        known[0, self.seen] = 1.0
        if self.signature.number_names:
            first = graph.add("Gather", NUMBERS, graph.constant(np.array([0], dtype=np.int64)), axis=1)
            count = graph.add("Cast", graph.add("IsNaN", first), to=1)
        else:
            count = graph.text_code(0, {"": 0.0}, default=0.0)
        zeros = graph.add("Mul", count, graph.floats(np.zeros((1, 1))))
        graph.add("Add", zeros, graph.constant(known), output=PROBABILITIES)
        if self.signature.number_names and self.signature.text_names:
            graph.text_column(0)  # every input of the signature is an input of the graph
        return graph.finished(self.signature)

    def importances(self) -> dict[str, float]:
        """No column mattered."""
        return {column.name: 0.0 for column in self.signature.columns}
