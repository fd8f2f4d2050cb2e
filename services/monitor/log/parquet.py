"""What does a file of the prediction log hold? Predictions as served and outcomes as they became known, as Parquet.

Predictions: ``stream, n, version, variant, event_time_us, entity_key``, ``in:<column>`` and ``out:<name>`` (numbers as float64,
NaN is null; texts as text). Outcomes: ``prediction_id, stream, n`` (of the prediction), ``number, label, known_at_us, revision``.
Shadow answers: ``stream, n, version, rollout, failed, event_time_us`` and ``score:<place>``.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.monitor.domain.streams import Taken
from services.monitor.domain.units import Outcome, Shadows


def predictions_file(taken: Sequence[tuple[Taken, Any]]) -> bytes:
    """The file of new rows: each batch with the indexes of its rows. Columns that a batch lacks are null there."""
    import pyarrow as pa

    tables = []
    for item, places in taken:
        batch, source = item.batch, item.batch.source
        positions = np.full(len(places), batch.at[1]) if batch.at else batch.first_n + places
        rows = len(places)
        columns: dict[str, Any] = {
            "stream": pa.array([batch.at[0] if batch.at else source.stream] * rows),
            "n": pa.array(positions, pa.int64()),
            "version": pa.array([source.version] * rows),
            "variant": pa.array([source.variant] * rows),
            "event_time_us": pa.array(batch.event_us[places], pa.int64()),
            "entity_key": pa.array(batch.keys.take(places).decoded() if batch.keys is not None else [None] * rows, pa.string()),
        }
        for prefix, table in (("in:", batch.inputs), ("out:", batch.outputs)):
            chosen_rows = table.take(places)
            for place, name in enumerate(chosen_rows.number_names):
                columns[prefix + name] = pa.array(chosen_rows.numbers[:, place].astype(np.float64))
            for name, text in chosen_rows.texts.items():
                columns[prefix + name] = pa.array(text.decoded(), pa.string())
        tables.append(pa.table(columns))
    return _bytes(pa.concat_tables(tables, promote_options="permissive"))


def outcomes_file(rows: Sequence[Outcome]) -> bytes:
    """The file of these outcomes."""
    import pyarrow as pa

    return _bytes(pa.table({
        "prediction_id": pa.array([r.prediction_id for r in rows], pa.string()),
        "stream": pa.array([r.stream for r in rows], pa.string()),
        "n": pa.array([r.n for r in rows], pa.int64()),
        "number": pa.array([r.number for r in rows], pa.float64()),
        "label": pa.array([r.label or None for r in rows], pa.string()),
        "known_at_us": pa.array([r.known_us for r in rows], pa.int64()),
        "revision": pa.array([r.revision for r in rows], pa.int32()),
    }))  # fmt: skip


def shadows_file(units: Sequence[Shadows]) -> bytes:
    """The file of these shadow answers; a row sent again may be in it again."""
    import pyarrow as pa

    scores = np.concatenate([unit.scores for unit in units])
    return _bytes(pa.table({
        "stream": pa.array([u.source.stream for u in units for _ in u.positions], pa.string()),
        "n": pa.array(np.concatenate([u.positions for u in units]), pa.int64()),
        "version": pa.array([u.version for u in units for _ in u.positions], pa.string()),
        "rollout": pa.array([u.rollout for u in units for _ in u.positions], pa.string()),
        "failed": pa.array(np.concatenate([u.failed for u in units])),
        "event_time_us": pa.array(np.concatenate([u.event_us for u in units]), pa.int64()),
        **{f"score:{place}": pa.array(scores[:, place]) for place in range(scores.shape[1])},
    }))  # fmt: skip


def _bytes(table: Any) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
