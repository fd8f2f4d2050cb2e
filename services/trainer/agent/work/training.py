"""What does a job do, from rows to a package?

Rows → out-of-sample answers by folds of whole blocks → (for a retraining) the judgement against the parent → a fit on
all rows → ONNX, replayed → the reference profile → the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from perennial.errors import FailedPrecondition, InvalidArgument
from perennial.frames import Table
from perennial.package import (
    BACKGROUND,
    MODEL,
    REFERENCE,
    Manifest,
    ModelPackage,
    Predictor,
    Signature,
    Task,
    load,
)
from perennial.package.replay import replayed

from services.trainer.agent.work import reference, rows
from services.trainer.agent.work.rows import TrainingRows
from services.trainer.agent.work.spec import Result, Spec
from services.trainer.algorithms import Algorithm, Fitted, Problem, named
from services.trainer.domain.blocks import Blocks, blocks_of, folds_that_fit
from services.trainer.domain.judgement import Judgement, judged

LEAST_ROWS = 20
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class _Learning:
    """Everything a fit needs."""

    spec: Spec
    algorithm: Algorithm
    problem: Problem
    rows: TrainingRows
    labels: NDArray[Any]
    blocks: Blocks
    parent: Predictor | None


@dataclass(frozen=True)
class OutOfSample:
    """Answers to rows by models that did not see their block; ``places`` are the rows that were answered."""

    places: NDArray[np.int64]
    outputs: NDArray[np.float64]


def train(spec: Spec, progress: Progress) -> Result:
    """Do the job; errors of :mod:`perennial.errors` are for its author."""
    progress(0.05, "reading rows")
    learning = _prepared(spec)
    digest = learning.rows.digest
    progress(0.15, f"fitting folds of {learning.rows.table.rows} rows")
    apart = _out_of_sample(learning, progress)
    verdict = _judgement(learning, apart)
    if verdict.harm:
        return Result(digest, metrics=verdict.figures(), declined=verdict.reason)
    progress(0.6, f"fitting all {learning.rows.table.rows} rows")
    fitted = learning.algorithm.fit(learning.rows.table, learning.labels, learning.problem)
    progress(0.75, "exporting")
    package = _packaged(learning, fitted, apart, verdict, digest)
    folder = Path(spec.folder) / "package"
    package.write(folder)
    return Result(digest, metrics=package.manifest.metrics, package=str(folder))


def _prepared(spec: Spec) -> _Learning:
    """The rows, their labels and blocks, and the problem."""
    recipe = spec.recipe
    algorithm = named(recipe.algorithm)
    parent = load(Path(spec.parent)) if spec.parent else None
    signature = parent.signature if parent else _first_signature(spec)
    if spec.log is not None:
        found = rows.of_log(spec.log, spec.training_set, signature, recipe.target)
    elif spec.training_set is not None:
        found = rows.of_training_set(spec.training_set, signature, recipe.target)
    else:
        raise InvalidArgument("the job names no data")
    if found.table.rows < LEAST_ROWS:
        raise FailedPrecondition(f"{found.table.rows} rows with a known truth are too few; at least {LEAST_ROWS} are needed")
    if signature.task is Task.CLASSIFICATION and parent is None:
        signature = _with_classes(signature, found)
    found, labels = _labelled(found, signature)
    parameters = algorithm.checked(recipe.hyperparameters)
    problem = Problem(signature, parameters, seed=recipe.seed, threads=spec.threads)
    change = spec.log.change_us if spec.log else None
    return _Learning(spec, algorithm, problem, found, labels, blocks_of(found.times_us, change, spec.folds), parent)


def _first_signature(spec: Spec) -> Signature:
    """The signature of a model without a parent; classes come from the rows and are filled in later."""
    recipe = spec.recipe
    task = Task(recipe.task)
    classes = ("", "?") if task is Task.CLASSIFICATION else ()
    if spec.training_set is None:
        raise InvalidArgument("a first training needs a training set")
    return Signature.of(rows.columns_in(spec.training_set, recipe.columns), task, classes)


def _with_classes(signature: Signature, found: TrainingRows) -> Signature:
    classes = tuple(sorted(set(found.truths)))
    if len(classes) < 2:
        raise FailedPrecondition(f"every row is of the class {classes[0]!r}; a classification needs at least two")
    return replace(signature, classes=classes)


def _labelled(found: TrainingRows, signature: Signature) -> tuple[TrainingRows, NDArray[Any]]:
    """Labels as the algorithms take them; rows of a class the signature does not have cannot be learnt and are left out."""
    if signature.task is Task.REGRESSION:
        labels = found.truths.astype(np.float64)
        if not np.isfinite(labels).all():
            raise InvalidArgument("a label is infinite")
        return found, labels
    places = {name: place for place, name in enumerate(signature.classes)}
    labels = np.array([places.get(name, -1) for name in found.truths], dtype=np.int32)
    known = np.flatnonzero(labels >= 0)
    if len(known) == len(labels):
        return found, labels
    kept = TrainingRows(found.table.take(known), found.truths[known], found.times_us[known], found.keys[known])
    return kept, labels[known]


def _out_of_sample(learning: _Learning, progress: Progress) -> OutOfSample:
    """Each fold's rows answered by a fit on the others. A retraining may fit fewer folds; the judged one is always first."""
    folds = folds_that_fit(learning.blocks, learning.spec.folds)
    fold_of_row = learning.blocks.fold_of_row(folds)
    places, outputs = [], []
    wanted = folds if learning.parent is None else min(folds, max(1, learning.spec.retrain_folds))
    for fold in range(wanted):
        apart = np.flatnonzero(fold_of_row == fold)
        seen = np.flatnonzero(fold_of_row != fold)
        if not len(seen):
            continue
        fitted = learning.algorithm.fit(learning.rows.table.take(seen), learning.labels[seen], learning.problem)
        places.append(apart)
        outputs.append(fitted.predict(learning.rows.table.take(apart)))
        progress(0.15 + 0.45 * (fold + 1) / wanted, f"fold {fold + 1} of {wanted}")
    if not places:
        raise FailedPrecondition("all rows are of one instant: nothing can be held out to judge the model")
    order = np.argsort(np.concatenate(places), kind="stable")
    return OutOfSample(np.concatenate(places)[order], np.concatenate(outputs)[order])


def _judgement(learning: _Learning, apart: OutOfSample) -> Judgement:
    """The recipe against the parent on every fifth block that the parent has not seen either."""
    if learning.parent is None:
        return Judgement()
    folds = folds_that_fit(learning.blocks, learning.spec.folds)
    unseen = learning.rows.times_us >= learning.parent.manifest.data_end_us
    chosen = (learning.blocks.fold_of_row(folds) == 0) & unseen
    among = chosen[apart.places]
    places = apart.places[among]
    table = learning.rows.table.take(places)
    parent = learning.parent.run(table).astype(np.float64) if len(places) else apart.outputs[among]
    change = learning.spec.log.change_us if learning.spec.log else None
    before = learning.rows.times_us[places] < change if change is not None else np.zeros(len(places), dtype=bool)
    labels = learning.labels[places]
    new_losses, parent_losses = losses(labels, apart.outputs[among]), losses(labels, parent)
    return judged(new_losses, parent_losses, learning.blocks.of_row[places], before, margin=learning.spec.margin)


def losses(labels: NDArray[Any], outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loss a row: absolute error, or minus the log of the true class's probability."""
    if outputs.shape[1] == 1:
        return np.asarray(np.abs(outputs[:, 0] - labels))
    return np.asarray(-np.log(np.maximum(outputs[np.arange(len(labels)), labels], 1e-15)))


def _packaged(learning: _Learning, fitted: Fitted, apart: OutOfSample, verdict: Judgement, digest: str) -> ModelPackage:
    """The graph, replayed over every row and fresh ones, with everything a version carries."""
    spec, recipe, signature = learning.spec, learning.spec.recipe, learning.problem.signature
    importances = fitted.importances()
    graph = fitted.graph()
    times = learning.rows.times_us
    manifest = Manifest(
        framework=learning.algorithm.framework, algorithm=learning.algorithm.name, signature=signature,
        model=recipe.model, target=recipe.target, training_set=digest, parent=spec.parent_version, job=spec.job_id,
        code_version=spec.code_version, seed=recipe.seed, parameters=dict(learning.problem.parameters),
        importances=importances, data_start_us=int(times[0]), data_end_us=int(times[-1]) + 1,
    )  # fmt: skip
    rows_replayed = Table.concat([learning.rows.table, fresh_rows(learning.rows.table, recipe.seed)])
    check = replayed(fitted.predict(rows_replayed), Predictor(manifest, graph).run(rows_replayed))
    figures = reference.figures(signature, learning.labels[apart.places], apart.outputs)
    metrics = {**figures, **verdict.figures(), "rows": float(learning.rows.table.rows)}
    profile = reference.profile_bytes(learning.rows, signature, apart.places, apart.outputs, importances)
    background = reference.background_bytes(learning.rows.table)
    manifest = replace(manifest, export_check=check, metrics=metrics)
    return ModelPackage.of(manifest, {MODEL: graph, REFERENCE: profile, BACKGROUND: background})


def fresh_rows(table: Table, seed: int, count: int = 1000) -> Table:
    """Rows nobody trained on: every column drawn by itself from the training rows, one value in twenty a null."""
    random = np.random.default_rng(seed)
    pick = random.integers(0, table.rows, size=(count, len(table.number_names)))
    numbers = np.take_along_axis(table.numbers, pick, axis=0) if table.number_names else table.numbers[:0].repeat(count, axis=0)
    if table.number_names:
        numbers = np.where(random.random(numbers.shape) < 0.05, np.nan, numbers).astype(table.numbers.dtype)
    texts = {}
    for name, text in table.texts.items():
        codes = text.codes[random.integers(0, table.rows, size=count)]
        texts[name] = replace(text, codes=np.where(random.random(count) < 0.05, -1, codes).astype(np.int32))
    return Table(count, table.number_names, numbers, texts)
