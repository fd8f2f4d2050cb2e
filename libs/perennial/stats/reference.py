"""What was normal when a model was trained? The reference profile (``reference.bin`` of a model package)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import DataLoss
from perennial.stats.codec import pack, unpack
from perennial.stats.columns import Column, Grid, NumberColumn, TextColumn
from perennial.stats.errors import ErrorProfile

FORMAT = 1
NUMBER_ARRAYS = {
    "cells": "<u2", "cell_counts": "<i8", "cell_values": "<f8", "uppers": "<u2", "edges": "<f8", "counts": "<i8",
}  # fmt: skip


@dataclass(frozen=True)
class Noise:
    """How far windows of the reference itself are from the rest of it, by test: root of the statistic's scale squared, as
    ``cluster + sampling / rows`` (columns x 2), from so many windows.
    """

    windows: int
    scales: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class PaneNoise:
    """What the reference's own panes show at most, a row a column: KS D (its 90 % point and its maximum), missing share."""

    figures: NDArray[np.float64]
    panes: int


@dataclass(frozen=True)
class Profile:
    """Inputs and outputs of a training set, column by column, with what their clustered noise looks like."""

    inputs: Grid
    outputs: Grid
    rows: int
    start_us: int
    end_us: int
    importance: Mapping[str, float] = field(default_factory=dict)
    errors: ErrorProfile | None = None
    noise: Noise | None = None
    panes: PaneNoise | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """Inputs' columns, then outputs'."""
        return (*self.inputs.columns, *self.outputs.columns)

    def counts_of(self, place: int, counts: NDArray[Any]) -> NDArray[np.int64]:
        """The part of a fold's counts that is of column ``place`` (in the order of ``columns``)."""
        inside = len(self.inputs.columns)
        if place < inside:
            return self.inputs.counts_of(place, counts[..., : self.inputs.bins])
        return self.outputs.counts_of(place - inside, counts[..., self.inputs.bins :])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The reference's own counts over all bins, as a fold of it holds them (outputs: those it was given)."""
        return np.concatenate([np.zeros(0, np.int64), *(column.counts for column in self.columns)])

    @cached_property
    def checksum(self) -> int:
        """Tells folds over different bins apart."""
        parts = [repr((c.name, type(c).__name__)).encode() for c in self.columns]
        for column in self.columns:
            if isinstance(column, NumberColumn):
                parts += [np.array([column.centre, column.scale]).tobytes(), column.uppers.tobytes(), column.cells.tobytes()]
            else:
                parts.append(repr((column.categories, column.rare)).encode())
        return zlib.crc32(b"|".join(parts))

    def weight(self, name: str) -> float:
        """Importance of a column, 0..1; equal shares when none are known, 0 for a column that has none."""
        total = sum(self.importance.values())
        if total <= 0:
            return 1.0 / max(len(self.inputs.columns), 1)
        return self.importance.get(name, 0.0) / total

    def to_bytes(self) -> bytes:
        """The profile as bytes that hold data only; the same profile gives the same bytes."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "rows": self.rows,
            "start_us": self.start_us,
            "end_us": self.end_us,
            "importance": dict(self.importance),
            "errors": self.errors.to_json() if self.errors else None,
            "noise_windows": self.noise.windows if self.noise else None,
            "noise_panes": self.panes.panes if self.panes else None,
        }
        arrays: dict[str, NDArray[Any]] = {}
        for side, grid in (("inputs", self.inputs), ("outputs", self.outputs)):
            values[side] = [_column_to(column, f"{side}.{place}.", arrays) for place, column in enumerate(grid.columns)]
        if self.noise:
            arrays |= {f"noise.{test}": scale.astype("<f8") for test, scale in self.noise.scales.items()}
        if self.panes:
            arrays["panes"] = self.panes.figures.astype("<f8")
        return pack(values, arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """The profile that ``to_bytes`` wrote. DataLoss when the bytes are damaged or of another format."""
        values, arrays = unpack(data)
        try:
            if values["format"] != FORMAT:
                raise DataLoss(f"a profile of format {values['format']}; this reads {FORMAT}")
            scales = {name.removeprefix("noise."): a for name, a in arrays.items() if name.startswith("noise.")}
            return cls(
                inputs=_grid_from(values["inputs"], "inputs.", arrays),
                outputs=_grid_from(values["outputs"], "outputs.", arrays),
                rows=values["rows"],
                start_us=values["start_us"],
                end_us=values["end_us"],
                importance=values["importance"],
                errors=ErrorProfile.from_json(values["errors"]) if values["errors"] else None,
                noise=Noise(values["noise_windows"], scales) if values["noise_windows"] is not None else None,
                panes=PaneNoise(arrays["panes"], values["noise_panes"]) if values["noise_panes"] is not None else None,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataLoss(f"a profile cannot be read: {error!r}") from None


def _column_to(column: Column, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    if isinstance(column, TextColumn):
        arrays[prefix + "counts"] = column.counts.astype("<i8")
        return {"name": column.name, "kind": "text", "categories": list(column.categories), "rare": list(column.rare)}
    for name, dtype in NUMBER_ARRAYS.items():
        arrays[prefix + name] = getattr(column, name).astype(dtype)
    return {
        "name": column.name,
        "kind": "number",
        "centre": column.centre,
        "scale": column.scale,
        "low": column.low,
        "high": column.high,
        "discrete": column.discrete,
    }


def _grid_from(columns: list[dict[str, Any]], prefix: str, arrays: dict[str, NDArray[Any]]) -> Grid:
    numbers, texts = [], []
    for place, values in enumerate(columns):
        key = f"{prefix}{place}."
        if values["kind"] == "text":
            texts.append(
                TextColumn(values["name"], tuple(values["categories"]), tuple(values["rare"]), arrays[key + "counts"])
            )
            continue
        held = {name: arrays[key + name] for name in NUMBER_ARRAYS}
        plain = {name: values[name] for name in ("name", "centre", "scale", "low", "high", "discrete")}
        parts: dict[str, Any] = plain | held
        column = NumberColumn(**parts)
        if not len(column.uppers) or len(column.counts) != column.bins or len(column.edges) != column.values - 1:
            raise DataLoss(f"column {column.name!r} of a profile does not fit together")
        numbers.append(column)
    return Grid(tuple(numbers), tuple(texts))
