"""Rows to train on, made up: a number with noise of its own each day, and a class."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

DAY_US = 86_400_000_000
START_US = 1_700_006_400_000_000 // DAY_US * DAY_US
INPUTS = ("x", "y", "z", "place")


def frame(rows: int = 1500, days: int = 15, *, seed: int = 1, first_day: int = 0, shift: float = 0.0) -> pl.DataFrame:
    """A training set: event_time_us, entity_key, inputs x, y, z, place and labels target, kind."""
    random = np.random.default_rng(seed)
    times = np.sort(START_US + first_day * DAY_US + (random.random(rows) * days * DAY_US).astype(np.int64))
    x, y, z = random.normal(size=(3, rows)).astype(np.float32).astype(float)
    place = random.choice(["north", "south", "east"], size=rows)
    target = 3 * x + y**2 + np.where(place == "north", 4.0, 0.0) + shift * x + random.normal(scale=0.2, size=rows)
    y = np.where(random.random(rows) < 0.05, np.nan, y)
    return pl.DataFrame({
        "event_time_us": times, "entity_key": [f"e{i % 40}" for i in range(rows)],
        "x": x, "y": pl.Series(y).fill_nan(None), "z": z, "place": pl.Series(place.tolist()),
        "target": target, "kind": pl.Series(np.where(target > 4, "high", np.where(target > 0, "mid", "low")).tolist()),
    })  # fmt: skip


def parquet(data: pl.DataFrame) -> bytes:
    """Its bytes."""
    target = io.BytesIO()
    data.write_parquet(target)
    return target.getvalue()


@dataclass
class Log:
    """The same rows as a prediction log would hold them."""

    predictions: pl.DataFrame
    outcomes: pl.DataFrame


def log(data: pl.DataFrame, *, stream: str = "a" * 24 + ".0", version: str = "1.0.0", known_after_us: int = 3_600_000_000) -> Log:
    """The rows as served by one stream, with outcomes known an hour later."""
    n = pl.int_range(1, data.height + 1, dtype=pl.Int64, eager=True)
    base: dict[str, Any] = {"stream": [stream] * data.height, "n": n}
    predictions = pl.DataFrame({
        **base, "version": [version] * data.height, "variant": ["champion"] * data.height,
        "event_time_us": data["event_time_us"], "entity_key": data["entity_key"],
        **{f"in:{name}": data[name] for name in INPUTS}, "out:prediction": np.zeros(data.height),
    })  # fmt: skip
    outcomes = pl.DataFrame({
        "prediction_id": [f"{stream}-{i}" for i in n], **base, "number": data["target"],
        "label": pl.Series([None] * data.height, dtype=pl.String),
        "known_at_us": data["event_time_us"] + known_after_us, "revision": pl.Series([0] * data.height, dtype=pl.Int32),
    })  # fmt: skip
    return Log(predictions, outcomes)
