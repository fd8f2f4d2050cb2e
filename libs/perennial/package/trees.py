"""How does an ensemble of decision trees become one ONNX operator without a row changing sides at a split?

Trees are trained on numbers rounded to 32 bits and split by 64-bit thresholds. The graph compares in 32 bits, so each
threshold becomes the largest 32-bit number not above it: for every 32-bit x, x <= t is then the same question. Rounding
to nearest, as common converters do, sends some training rows the other way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.package.graph import ML, GraphBuilder

NO_CHANCE = -1e4
"""The margin of a class that training never saw; its probability is 0."""


@dataclass(slots=True)
class TreeEnsemble:
    """Trees as flat lists; ``base`` is added to each target's sum of leaves."""

    targets: int
    base: list[float]
    trees: int = 0
    _nodes: list[tuple[int, int, int, str, float, int, int, int]] = field(default_factory=list)
    _leaves: list[tuple[int, int, int, float]] = field(default_factory=list)

    def tree(self, target: int) -> _Tree:
        """Start a tree that adds to ``target``."""
        self.trees += 1
        return _Tree(self, self.trees - 1, target)

    def margins(self, graph: GraphBuilder, features: str) -> str:
        """The sums, N x targets; onnxruntime 1.31 loses ``base_values`` where no leaf adds to a target, so Add does it."""
        tree, node, column, mode, value, yes, no, missing = zip(*self._nodes, strict=True)
        leaf_tree, leaf_node, leaf_target, weight = zip(*self._leaves, strict=True)
        sums = graph.add(
            "TreeEnsembleRegressor", features, domain=ML, n_targets=self.targets, post_transform="NONE", aggregate_function="SUM",
            nodes_treeids=tree, nodes_nodeids=node, nodes_featureids=column, nodes_modes=mode, nodes_values=_floats(value),
            nodes_truenodeids=yes, nodes_falsenodeids=no, nodes_missing_value_tracks_true=missing,
            target_treeids=leaf_tree, target_nodeids=leaf_node, target_ids=leaf_target, target_weights=_floats(weight),
        )  # fmt: skip
        return graph.add("Add", sums, graph.floats(np.array([self.base])))


def class_margins(graph: GraphBuilder, margins: str, present: list[int], classes: int) -> str:
    """Margins of all classes from those of the classes in training; a class that training never saw has no chance.

    Two classes have one margin, for the second of them; more have one each.
    """
    if classes <= 2 or len(present) == classes:
        return margins
    binary = len(present) == 2
    base = np.full((1, classes), NO_CHANCE)
    base[0, present] = 0.0
    places = np.zeros((1 if binary else len(present), classes))
    places[range(len(places)), present[1:] if binary else present] = 1.0
    return graph.add("Add", graph.add("MatMul", margins, graph.floats(places)), graph.floats(base))


@dataclass(frozen=True, slots=True)
class _Tree:
    ensemble: TreeEnsemble
    number: int
    target: int

    def branch(self, node: int, column: int, threshold: float, children: tuple[int, int], *, missing_left: bool) -> None:
        """A split: left when the column's value is <= threshold."""
        value = float(floor32(np.array([threshold]))[0])
        row = (self.number, node, column, "BRANCH_LEQ", value, children[0], children[1], int(missing_left))
        self.ensemble._nodes.append(row)  # noqa: SLF001 a tree is a part of its ensemble

    def leaf(self, node: int, value: float) -> None:
        """An end."""
        self.ensemble._nodes.append((self.number, node, 0, "LEAF", 0.0, 0, 0, 0))  # noqa: SLF001
        self.ensemble._leaves.append((self.number, node, self.target, value))  # noqa: SLF001


def floor32(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest 32-bit floats not above these numbers."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    return np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def of_lightgbm(booster: Any, targets: int) -> TreeEnsemble:
    """The trees of a LightGBM booster without categorical splits, of ``targets`` margins a row."""
    ensemble = TreeEnsemble(targets, [0.0] * targets)
    for number, tree in enumerate(booster.dump_model()["tree_info"]):
        _lightgbm_tree(ensemble.tree(number % targets), tree["tree_structure"])
    return ensemble


def _lightgbm_tree(tree: _Tree, root: dict[str, Any]) -> None:
    waiting = [(0, root)]
    count = 1
    while waiting:
        number, node = waiting.pop()
        if "split_index" not in node:
            tree.leaf(number, node["leaf_value"])
            continue
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            raise InvalidArgument("LightGBM: categorical splits and zero_as_missing cannot be exported; use numbers")
        # Without nulls in training (missing_type None) LightGBM reads a null as 0.
        left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
        tree.branch(number, node["split_feature"], node["threshold"], (count, count + 1), missing_left=left)
        waiting += [(count, node["left_child"]), (count + 1, node["right_child"])]
        count += 2


def of_histogram_boosting(predictors: Iterable[Iterable[Any]], base: NDArray[np.float64]) -> TreeEnsemble:
    """The trees of scikit-learn's HistGradientBoosting (rounds of one tree a target) and its baseline."""
    baseline = [float(v) for v in np.ravel(base)]
    ensemble = TreeEnsemble(len(baseline), baseline)
    for trees in predictors:
        for target, predictor in enumerate(trees):
            _histogram_tree(ensemble.tree(target), predictor.nodes)
    return ensemble


def _histogram_tree(tree: _Tree, nodes: NDArray[Any]) -> None:
    for number, node in enumerate(nodes):
        if node["is_leaf"]:
            tree.leaf(number, float(node["value"]))
            continue
        if node["is_categorical"]:
            raise InvalidArgument("HistGradientBoosting: categorical splits cannot be exported; use numbers")
        children = (int(node["left"]), int(node["right"]))
        column, threshold = int(node["feature_idx"]), float(node["num_threshold"])
        tree.branch(number, column, threshold, children, missing_left=bool(node["missing_go_to_left"]))


def _floats(values: Iterable[float]) -> list[float]:
    return [float(v) for v in values]
