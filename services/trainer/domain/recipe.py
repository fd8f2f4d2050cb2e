"""How is a model trained, and on which rows?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from perennial.errors import InvalidArgument

_MODEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained; ``hyperparameters`` hold every one of the algorithm's, ``columns`` all inputs in order."""

    model: str
    algorithm: str
    task: str
    target: str
    columns: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    def checked(self) -> Recipe:
        """The recipe, if its names can be right; InvalidArgument otherwise."""
        if not _MODEL.fullmatch(self.model):
            raise InvalidArgument(f"model {self.model!r}: a name is lower-case letters, digits, dash and underscore")
        if not self.target:
            raise InvalidArgument("the recipe names no target column")
        if self.target in self.columns:
            raise InvalidArgument(f"the target {self.target!r} cannot be an input column")
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise InvalidArgument(f"input column {', '.join(map(repr, twice))} is named twice")
        return self

    def fitted_to(self, inputs: tuple[str, ...], labels: tuple[str, ...]) -> Recipe:
        """The recipe for data with these columns: none given means every input, by name. InvalidArgument when one is missing."""
        if self.target not in labels:
            raise InvalidArgument(f"the data has no label column {self.target!r}; it has {', '.join(labels) or 'none'}")
        if missing := [name for name in self.columns if name not in inputs]:
            raise InvalidArgument(f"the data has no input column {', '.join(map(repr, missing))}; it has {', '.join(inputs)}")
        columns = self.columns or tuple(sorted(inputs))
        if not columns:
            raise InvalidArgument("the data has no input column")
        return Recipe(**{**self.to_json(), "columns": columns})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "hyperparameters": dict(self.hyperparameters), "tags": dict(self.tags)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe of plain values."""
        return cls(**{**data, "columns": tuple(data["columns"])})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stored cut of the prediction log."""

    snapshot_id: str
    manifest_key: str
    manifest_sha256: str
    rows: int = 0
    outcomes: int = 0


@dataclass(frozen=True, slots=True)
class UnitChange:
    """A column that arrives in another unit for good: its values before ``since_us`` times ``factor`` are in the new one."""

    column: str
    factor: float
    since_us: int


@dataclass(frozen=True, slots=True)
class LogRows:
    """Rows of the prediction log with event times in [start, end), and the outcomes known by the end."""

    deployment: str
    snapshot: Snapshot
    window_start_us: int
    window_end_us: int
    change_us: int | None = None
    first_training_set: str = ""
    units: tuple[UnitChange, ...] = ()

    def checked(self) -> LogRows:
        """These rows, if the window is one; InvalidArgument otherwise."""
        if not self.snapshot.manifest_key or not self.snapshot.manifest_sha256:
            raise InvalidArgument("the log snapshot names no manifest")
        if self.window_end_us <= self.window_start_us:
            raise InvalidArgument("the window ends before it starts")
        if wrong := [unit for unit in self.units if not (math.isfinite(unit.factor) and unit.factor > 0)]:
            raise InvalidArgument(f"column {wrong[0].column!r}: {wrong[0].factor} is no factor between units")
        return self


@dataclass(frozen=True, slots=True)
class Data:
    """Where a job's rows come from: a training set by digest, or the prediction log."""

    training_set: str = ""
    log: LogRows | None = None

    def checked(self) -> Data:
        """The source, if it is one; InvalidArgument otherwise."""
        if self.log is not None:
            self.log.checked()
        elif not re.fullmatch(r"[0-9a-f]{64}", self.training_set):
            raise InvalidArgument(f"training set {self.training_set!r} is not a digest (64 hex characters)")
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Data:
        """The source of plain values."""
        log = data.get("log")
        if not log:
            return cls(data.get("training_set", ""))
        units = tuple(UnitChange(**unit) for unit in log.get("units", ()))
        return cls(data.get("training_set", ""), LogRows(**{**log, "snapshot": Snapshot(**log["snapshot"]), "units": units}))
