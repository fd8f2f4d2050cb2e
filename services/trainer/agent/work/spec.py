"""What is a work process told, and what does it say? Plain values only: both cross a process boundary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.trainer.domain.recipe import Recipe, UnitChange


@dataclass(frozen=True, slots=True)
class TrainingSetFile:
    """A training set on this disk."""

    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The files of a snapshot on this disk; ``streams`` are the cut's positions where files reach beyond it."""

    predictions: tuple[str, ...]
    outcomes: tuple[str, ...]
    window_start_us: int
    window_end_us: int
    change_us: int | None = None
    begins_us: int | None = None
    """Event time of the deployment's first logged row, where the snapshot's manifest says so."""
    streams: Mapping[str, int] | None = None
    units: tuple[UnitChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Spec:
    """One training. ``parent`` is the folder of the version it retrains; its signature is kept."""

    job_id: str
    folder: str
    recipe: Recipe
    training_set: TrainingSetFile | None = None
    log: LogFiles | None = None
    parent: str = ""
    parent_version: str = ""
    code_version: str = ""
    threads: int = 1
    folds: int = 5
    retrain_folds: int = 1
    margin: float = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """What became of it: the package's folder, or why the new model was declined."""

    data_digest: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    package: str = ""
    declined: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
