"""What can a record on a stream say? Plain values of the messages that the monitor reads, checked for their lengths."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
PREDICTIONS = "predictions"
OUTCOMES = "outcomes"


@dataclass(frozen=True, slots=True)
class Source:
    """The stream a unit belongs to, and for predictions whose it is."""

    kind: str
    stream: str
    deployment: str
    version: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Rows of a prediction stream; ``scores`` is rows x width: the predicted number, or a probability a class."""

    source: Source
    first_n: int
    event_us: Times
    inputs: Any  # a perennial.frames.Table, which the domain does not import
    outputs: Any
    scores: Floats
    at: tuple[str, int] | None = None
    """Where the single row of a system outside is kept: its place comes from its own id."""
    keys: Any = None
    """Entity keys, a perennial.frames.Text, for the log."""

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.event_us)


@dataclass(frozen=True, slots=True)
class Shadows:
    """A challenger's answers under positions of the champion's stream."""

    source: Source
    version: str
    rollout: str
    positions: Times
    event_us: Times
    scores: Floats
    failed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a producer's stream has come."""

    source: Source
    next_n: int
    watermark_us: int | None
    """None leaves it where it is."""
    flush: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """Positions that the producer knows are missing."""

    source: Source
    first_n: int
    last_n: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream is complete."""

    source: Source
    last_n: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One truth. ``stream`` and ``n`` are those of its prediction; a foreign id has none until it is looked up."""

    deployment: str
    prediction_id: str
    revision: int
    known_us: int
    number: float
    label: str
    stream: str = ""
    n: int = 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Rows of an outcome stream; ``refused`` says why single rows cannot be right."""

    source: Source
    first_n: int
    rows: tuple[Outcome, ...]
    refused: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dead:
    """A record that went to the dead letter, as far as its headers say what it held."""

    source: Source
    first_n: int
    rows: int


Unit = Predictions | Shadows | Progress | Dropped | Ended | Outcomes | Dead


def foreign_place(deployment: str, prediction_id: str) -> tuple[str, int]:
    """Where a prediction that a system outside named itself is kept: the same for everybody who knows its id."""
    digest = hashlib.blake2b(prediction_id.encode(), digest_size=8).digest()
    return f"foreign/{deployment}", int.from_bytes(digest, "big") >> 1


def position_of(prediction_id: str) -> tuple[str, int] | None:
    """Stream and position that an id ``<stream>-<n>`` names, or None when it is no id of ours.

    >>> position_of("9fc3.0-17")
    ('9fc3.0', 17)
    """
    stream, _, n = prediction_id.rpartition("-")
    return (stream, int(n)) if stream and n.isascii() and n.isdigit() and 0 < int(n) < 2**62 else None
