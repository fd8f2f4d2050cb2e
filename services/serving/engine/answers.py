"""What did a variant answer, is it an answer, and how is it written down?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from perennial.errors import Internal
from perennial.frames import Table, Text
from perennial.spool import Part, Stream
from perennial.spool import Text as LoggedText
from perennial.spool.batches import outputs_blocks
from perennial.v1.common_pb2 import Blocks

from services.serving.engine.line import Loaded

Matrix = NDArray[np.float32]
ANSWERED, STOOD_IN = 0, 1
_ONE_CODE = b"\0\0\0\0"


class Answered(NamedTuple):
    """Rows of one call that one variant answers; ``places`` are their rows in the call, None for all."""

    loaded: Loaded
    variant: str
    outputs: Matrix
    places: NDArray[np.intp] | None
    status: int


def failure(loaded: Loaded, rows: int, error: Exception) -> Internal:
    """A champion that throws."""
    loaded.counter.failed(rows, "exception")
    return Internal(f"version {loaded.info.version} failed: {str(error).splitlines()[0]}")


def flaw(loaded: Loaded, outputs: Matrix, rows: int) -> str:
    """What is wrong with a model's outputs; empty when nothing is."""
    if outputs.shape != (rows, len(loaded.info.output_names)):
        return f"it gave {outputs.shape} for {rows} rows"
    if rows == 1 and len(outputs[0]) == 1:
        value = float(outputs[0, 0])
        return "" if value - value == 0.0 else f"it gave {value}"
    finite = np.isfinite(outputs)
    return "" if finite.all() else f"it gave no number for row {int(np.argmin(finite.all(axis=1)))}"


def outputs_of(answers: list[Answered], rows: int) -> Blocks:
    """The outputs of all rows in the order they were asked."""
    first = answers[0]
    info = first.loaded.info
    if first.places is None:
        return outputs_blocks(info.output_names, info.classes, rows, first.outputs.tobytes())
    whole = np.empty((rows, first.outputs.shape[1]), dtype=np.float32)
    for answered in answers:
        whole[answered.places] = answered.outputs
    return outputs_blocks(info.output_names, info.classes, rows, whole.tobytes())


def part_of(  # noqa: PLR0917 on the path of every call: keywords cost
    stream: Stream, first: int, rows: int, seconds: float, status: int, times: bytes, table: Table, texts: tuple[Text, ...],
    outputs: Matrix, keys: Sequence[str], places: NDArray[np.intp] | None,
) -> Part:  # fmt: skip
    """The rows of one variant as they are written."""
    numbers = table.numbers
    if places is not None:
        numbers = numbers[places]
        texts = tuple(text.take(places) for text in texts)
        times = np.frombuffer(times, dtype="<i8")[places].tobytes()
        keys = [keys[place] for place in places] if keys else ()
    logged = [LoggedText(text.codes.tobytes(), text.values) for text in texts]
    named = None
    if keys:
        named = LoggedText(_ONE_CODE if rows == 1 else np.arange(rows, dtype="<i4").tobytes(), keys)
    return Part(stream.ordinal, first, rows, seconds, status, times, numbers.tobytes(), outputs.tobytes(), logged, named)

