"""How do old facts lie in Parquet, and how are they read back?

One file holds facts of the keys of one bucket, sorted by key, event time, known_at and sequence, so that the facts of a
few entities are a few row groups, and what is read whole needs no sorting.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.feature.domain.facts import Facts
from services.feature.domain.views import FeatureView

BUCKETS = 32
_GROUP_ROWS = 65_536
_KEY, _EVENT, _LAG, _SEQ = "key", "event_us", "lag_us", "seq"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of facts."""

    id: int
    bucket: int
    object_key: str
    least_event: int
    greatest_event: int

    def overlaps(self, buckets: set[int], since: int | None, until: int | None) -> bool:
        """Whether it may hold facts of these buckets with since <= event time < until."""
        after = since is None or self.greatest_event >= since
        return self.bucket in buckets and after and (until is None or self.least_event < until)


def bucket_of(key: str) -> int:
    """The bucket of a key."""
    return zlib.crc32(key.encode()) % BUCKETS


def in_file_order(keys: Sequence[str]) -> list[int]:
    """The places of the keys in the order in which files hold them: by bucket, then by key."""
    return sorted(range(len(keys)), key=lambda place: (bucket_of(keys[place]), keys[place].encode()))


def write_facts(view: FeatureView, facts: Facts, path: Path) -> None:
    """Write facts, of one bucket."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rank = np.empty(len(facts.keys), dtype=np.int64)
    by_key = sorted(range(len(facts.keys)), key=lambda place: facts.keys[place].encode())
    rank[by_key] = np.arange(len(by_key))
    rows = facts.take(np.lexsort((facts.seq, facts.known, facts.event, rank[facts.entity])))
    keys = pa.DictionaryArray.from_arrays(
        pa.array(rank[rows.entity].astype(np.int32)), pa.array([facts.keys[place] for place in by_key], type=pa.string())
    )
    columns = {_KEY: keys, _EVENT: pa.array(rows.event), _LAG: pa.array(rows.known - rows.event), _SEQ: pa.array(rows.seq)}
    for place, name in enumerate(view.number_columns):
        columns[f"n:{name}"] = pa.array(np.ascontiguousarray(rows.numbers[:, place]))
    for place, name in enumerate(view.text_columns):
        columns[f"t:{name}"] = pa.array(rows.texts[place], type=pa.string())
    coded = [_KEY, _LAG, *(f"t:{name}" for name in view.text_columns)]
    pq.write_table(
        pa.table(columns),
        path,
        compression="lz4",
        row_group_size=_GROUP_ROWS,
        use_dictionary=coded,
        column_encoding={_EVENT: "DELTA_BINARY_PACKED", _SEQ: "DELTA_BINARY_PACKED"},
    )


def read_facts_of(view: FeatureView, path: Path, keys: Sequence[str], since: int | None, until: int | None) -> Facts:
    """The facts in a file of these keys with since <= event time < until; entities are places in ``keys``.

    Columns that the view got after the file was written are null.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, read_dictionary=[_KEY])
    places = {key: place for place, key in enumerate(keys)}
    groups = _groups(file, sorted(key.encode() for key in keys))
    if not groups:
        return Facts.none(tuple(keys), view)
    present = set(file.schema_arrow.names)
    numbers = [f"n:{name}" for name in view.number_columns]
    texts = [f"t:{name}" for name in view.text_columns]
    wanted = [_KEY, _EVENT, _LAG, _SEQ, *(name for name in (*numbers, *texts) if name in present)]
    table = file.read_row_groups(groups, columns=wanted, use_threads=True)
    rows = table.num_rows
    event = table[_EVENT].to_numpy()
    matrix = np.full((rows, len(numbers)), np.nan)
    for place, name in enumerate(numbers):
        if name in present:
            matrix[:, place] = table[name].to_numpy()
    null = np.full(rows, None, dtype=object)
    facts = Facts(
        tuple(keys), _entities(table[_KEY], places), event, event + table[_LAG].to_numpy(), table[_SEQ].to_numpy(), matrix,
        tuple(table[name].to_numpy(zero_copy_only=False) if name in present else null for name in texts),
    )  # fmt: skip
    keep = facts.entity >= 0
    if since is not None:
        keep &= event >= since
    if until is not None:
        keep &= event < until
    return facts if keep.all() else facts.take(keep)


def _groups(file: Any, keys: Sequence[bytes]) -> list[int]:
    """The row groups that may hold one of the keys (sorted)."""
    found = []
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(0).statistics
        if statistics is None or not statistics.has_min_max:
            found.append(group)
            continue
        place = int(np.searchsorted(np.array(keys, dtype=object), statistics.min.encode()))
        if place < len(keys) and keys[place] <= statistics.max.encode():
            found.append(group)
    return found


def _entities(column: Any, places: dict[str, int]) -> NDArray[np.int64]:
    """The place of each row's key; -1 for a key that is not asked for."""
    parts = []
    for chunk in column.chunks:
        coded = np.array([places.get(key, -1) for key in chunk.dictionary.to_pylist()], dtype=np.int64)
        parts.append(coded[chunk.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
