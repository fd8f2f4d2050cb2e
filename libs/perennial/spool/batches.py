"""Which messages do the parts of many calls make?

Consecutive rows of one stream become one columnar batch: numbers are row-major, so joining calls is joining bytes. The
order of a stream's records is kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from perennial.frames import Text as FrameText
from perennial.frames import encode_text
from perennial.spool.records import Part, StreamInfo, Text
from perennial.v1.common_pb2 import NUMBER_TYPE_FLOAT32, Blocks, Frame, TextColumn
from perennial.v1.events_pb2 import PredictionBatch

MOST_ROWS = 4096
MOST_BYTES = 512 * 1024


class _Texts:
    """One text column over several parts."""

    def __init__(self) -> None:
        self.codes = array("i")
        self.values: dict[str, int] = {}

    def add(self, text: Text | None, rows: int) -> None:
        if text is None:
            self.codes.extend([-1] * rows)
            return
        codes, values = text
        known = self.values
        if rows == 1 and len(values) == 1:
            self.codes.append(known.setdefault(values[0], len(known)) if codes[0] == 0 else -1)
            return
        places = [known.setdefault(value, len(known)) for value in values]
        if rows == 1:
            code = int.from_bytes(codes, "little", signed=True)
            self.codes.append(places[code] if code >= 0 else -1)
        elif places == list(range(len(places))):
            self.codes.frombytes(bytes(codes))
        else:
            self.codes.frombytes(np.array([*places, -1], dtype="<i4")[np.frombuffer(codes, dtype="<i4")].tobytes())

    def column(self, name: str) -> TextColumn:
        return TextColumn(name=name, codes=self.codes.tobytes(), values=list(self.values))


class Rows:
    """Rows of one stream on their way into a batch."""

    def __init__(self, stream: str, info: StreamInfo) -> None:
        self.stream = stream
        self.info = info
        self._clear()

    def _clear(self) -> None:
        self.first_n = self.rows = self.bytes = 0
        self._times: list[bytes | memoryview] = []
        self._numbers: list[bytes | memoryview] = []
        self._outputs: list[bytes | memoryview] = []
        self._latencies = array("f")
        self._statuses = bytearray()
        self._texts = [_Texts() for _ in self.info.text_names]
        self._keys = _Texts()

    def fits(self, part: Part) -> bool:
        """Whether the part follows what is here and there is room."""
        if not self.rows:
            return True
        return (
            part.first_n == self.first_n + self.rows and self.rows + part.rows <= MOST_ROWS
            and self.bytes + len(part.numbers) <= MOST_BYTES
        )  # fmt: skip

    def add(self, part: Part) -> None:
        """Take the part's rows in."""
        if not self.rows:
            self.first_n = part.first_n
        rows = part.rows
        self.rows += rows
        self.bytes += len(part.numbers) + len(part.outputs) + 8 * rows
        self._times.append(part.times)
        self._numbers.append(part.numbers)
        self._outputs.append(part.outputs)
        if rows == 1:
            self._latencies.append(part.latency_s)
            self._statuses.append(part.status)
        else:
            self._latencies.extend([part.latency_s] * rows)
            self._statuses += bytes((part.status,)) * rows
        for column, text in zip(self._texts, part.texts, strict=True):
            column.add(text, rows)
        self._keys.add(part.keys, rows)

    def batch(self) -> PredictionBatch:
        """The message of all rows taken in; none are left."""
        info = self.info
        message = PredictionBatch(
            stream=self.stream, first_n=self.first_n, deployment=info.deployment, version=info.version, variant=info.variant,
            inputs=self._inputs(), outputs=outputs_frame(info, self.rows, b"".join(self._outputs)),
            event_times_us=np.frombuffer(b"".join(self._times), dtype="<i8").tolist(),
            entity_keys=self._keys.column(""), latencies=self._latencies.tobytes(), statuses=bytes(self._statuses),
            model=info.model, signature_digest=info.signature_digest,
        )  # fmt: skip
        self._clear()
        return message

    def _inputs(self) -> Frame:
        info = self.info
        texts = [column.column(name) for name, column in zip(info.text_names, self._texts, strict=True)]
        blocks = Blocks(
            rows=self.rows, number_names=info.number_names, numbers=b"".join(self._numbers), number_type=NUMBER_TYPE_FLOAT32,
            texts=texts, signature_digest=info.signature_digest,
        )  # fmt: skip
        return Frame(blocks=blocks)


def outputs_frame(info: StreamInfo, rows: int, matrix: bytes) -> Frame:
    """The outputs of a float32 matrix; the label of a row without numbers is null."""
    return Frame(blocks=outputs_blocks(info.output_names, info.classes, rows, matrix))


def outputs_blocks(names: Sequence[str], classes: tuple[str, ...], rows: int, matrix: bytes) -> Blocks:
    """See :func:`outputs_frame`."""
    blocks = Blocks(rows=rows, number_names=names, numbers=matrix, number_type=NUMBER_TYPE_FLOAT32)
    if classes:
        values = np.frombuffer(matrix, dtype="<f4").reshape(rows, len(names))
        codes = np.where(np.isnan(values).any(axis=1), -1, values.argmax(axis=1)).astype("<i4")
        blocks.texts.append(encode_text(FrameText(codes, classes), "label"))
    return blocks
