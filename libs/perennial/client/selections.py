"""How are feature requests put together from a caller's rows?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perennial.client.rows import Rows, Times, as_table, as_times_us
from perennial.frames import Table, Text, encode, encode_text
from perennial.v1 import feature_pb2 as pb

_ROWS_A_MESSAGE = 5_000


def view_rows(view: str, rows: Rows, times: Times, known_at: Times | None = None) -> pb.ViewRows:
    """The part of a write for one view."""
    return pb.ViewRows(
        view=view, rows=encode(as_table(rows)), event_times_us=as_times_us(times), known_at_us=as_times_us(known_at)
    )


def selection(view: str, keys: Sequence[str | None], features: Sequence[str]) -> pb.FeatureSelection:
    """The part of a read for one view."""
    return pb.FeatureSelection(view=view, keys=encode_text(Text.of(keys)), features=features)


def training_rows(
    header: pb.TrainingSetHeader, table: Table, times_us: Sequence[int], entity_keys: Sequence[str]
) -> Iterator[pb.BuildTrainingSetRequest]:
    """The messages of a training set: its header, then the rows in pieces."""
    yield pb.BuildTrainingSetRequest(header=header)
    for start in range(0, table.rows, _ROWS_A_MESSAGE):
        stop = start + _ROWS_A_MESSAGE
        rows = pb.TrainingRows(
            rows=encode(table.slice(start, stop)), event_times_us=times_us[start:stop], entity_keys=entity_keys[start:stop]
        )
        yield pb.BuildTrainingSetRequest(rows=rows)
