"""How does a table become a Parquet file? The same table always gives the same bytes."""

import hashlib
from pathlib import Path

import numpy as np
from perennial.frames import Table

from services.feature.domain.training import ENTITY, TIME, Labelled

_GROUP_ROWS = 131_072


def write_training_set(rows: Labelled, inputs: list[str], labels: list[str], path: Path) -> str:
    """Write ``rows`` and give the file's sha256: event time, entity key, inputs, labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*inputs, *labels]
    columns = [pa.array(rows.times), pa.array(rows.entities, type=pa.string())]
    columns += [_column(rows.table, name) for name in names]
    table = pa.Table.from_arrays(columns, names=[TIME, ENTITY, *names])
    pq.write_table(table, path, compression="zstd", compression_level=1, row_group_size=_GROUP_ROWS, write_statistics=True)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _column(table: Table, name: str) -> object:
    import pyarrow as pa

    if name in table.texts:
        text = table.texts[name]
        codes = pa.array(text.codes, mask=text.codes < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(text.values, type=pa.string())).cast(pa.string())
    return pa.array(np.ascontiguousarray(table.column(name), dtype=np.float64))
