"""S06: a point-in-time join from Parquet against polars' join_asof from Parquet, each in a process of its own.

    python bench/s06_point_in_time.py [labels] [rows] [entities]        (default 1,000,000 10,000,000 100,000)

Both read the same facts and labels from disk and end with the joined columns in memory; the answers are compared.
Ours also honours known_at and ties, which join_asof cannot. Peak is the resident set of the process, imports included.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SPAN_US = 90 * 24 * 3_600_000_000
BASE_US = 1_357_000_000_000_000
FEATURES = ("f0", "f1", "f2", "f3")


def main() -> None:
    """Make the data, run both, compare, print."""
    labels, rows, entities = [int(a) for a in (*sys.argv[1:], *("1000000", "10000000", "100000")[len(sys.argv) - 1 :])][:3]
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), labels, rows, entities)
        ours, floor = (best(Path(folder), side) for side in ("ours", "polars"))
        same = all(
            np.array_equal(
                np.load(Path(folder) / f"ours-{name}.npy"), np.load(Path(folder) / f"polars-{name}.npy"), equal_nan=True
            )
            for name in FEATURES
        )
    print("id  name  ours  floor  ratio")
    print(f"S06  join {labels:,} x {rows:,} x 4 (s)  {ours['s']:.2f}  {floor['s']:.2f}  {ours['s'] / floor['s']:.2f}")
    print(f"S06  peak memory (GB)  {ours['gb']:.2f}  {floor['gb']:.2f}  {ours['gb'] / floor['gb']:.2f}")
    print(f"S06  equal answers  {same}")


def prepare(folder: Path, labels: int, rows: int, entities: int) -> None:
    """Facts as one plain Parquet file for polars and as the service's files; labels as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(6)
    names = pa.array([f"user-{place:08d}" for place in range(entities)])

    def keys(count: int) -> object:
        return pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, entities, count).astype(np.int32)), names)

    def plain(name: str, columns: dict[str, object]) -> None:
        table = pa.table(columns)
        pq.write_table(table.set_column(0, "key", table["key"].cast(pa.string())), folder / name, compression="lz4")

    plain("labels.parquet", {"key": keys(labels), "t": np.sort(rng.integers(BASE_US, BASE_US + SPAN_US, labels))})
    facts = {"key": keys(rows), "t": np.sort(rng.integers(BASE_US, BASE_US + SPAN_US, rows))}
    facts |= {name: rng.normal(size=rows) for name in FEATURES}
    plain("facts.parquet", facts)
    write_history(folder, facts, [str(name) for name in names])


def write_history(folder: Path, facts: dict[str, object], names: list[str]) -> None:
    """The files that a compaction of these facts would have made."""
    from services.feature.domain.facts import Facts
    from services.feature.store.files import BUCKETS, bucket_of, write_facts

    codes = facts["key"].indices.to_numpy()  # type: ignore[attr-defined]
    of_key = np.array([bucket_of(name) for name in names])
    t = np.asarray(facts["t"])
    for bucket in range(BUCKETS):
        mine = np.flatnonzero(of_key[codes] == bucket)
        chosen = np.flatnonzero(of_key == bucket)
        place = np.full(len(names), -1)
        place[chosen] = np.arange(len(chosen))
        numbers = np.column_stack([np.asarray(facts[name])[mine] for name in FEATURES])
        part = Facts(tuple(names[c] for c in chosen), place[codes[mine]], t[mine], t[mine], mine, numbers)
        write_facts(view(), part, folder / f"{bucket:02d}.parquet")


def view() -> Any:
    """A view with four last values."""
    from services.feature.domain.views import Aggregation, Feature, FeatureView, Kind, SourceColumn

    columns = tuple(SourceColumn(name, Kind.NUMBER) for name in FEATURES)
    return FeatureView("users", "user", "key", columns, tuple(Feature(name, Aggregation.LAST, name) for name in FEATURES))


def best(folder: Path, side: str) -> dict[str, float]:
    """The quickest of three runs in fresh processes."""
    runs = []
    for _ in range(3):
        command = [sys.executable, __file__, "--side", side, str(folder)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
    return min(runs, key=lambda run: float(run["s"]))


def run(side: str, folder: Path) -> None:
    """One side, timed."""
    start = time.perf_counter()
    columns = with_polars(folder) if side == "polars" else with_ours(folder)
    spent = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    for name, column in columns.items():
        np.save(folder / f"{side}-{name}.npy", column)
    print(json.dumps({"s": spent, "gb": peak}))


def with_polars(folder: Path) -> dict[str, Any]:
    """The plain way: read both, join_asof by key on sorted times."""
    import polars as pl

    labels = pl.read_parquet(folder / "labels.parquet").with_row_index("n").set_sorted("t")
    facts = pl.read_parquet(folder / "facts.parquet").set_sorted("t")
    joined = labels.join_asof(facts, on="t", by="key", strategy="backward", allow_exact_matches=False, check_sortedness=False)
    joined = joined.sort("n")
    return {name: joined[name].to_numpy() for name in FEATURES}


def with_ours(folder: Path) -> dict[str, Any]:
    """The service's join: keys in the order of its files, a batch of entities after the other."""
    import pyarrow.parquet as pq

    from services.feature.domain.joining import Joining, KeyedRows
    from services.feature.domain.layout import Layout
    from services.feature.store.files import BUCKETS, bucket_of, in_file_order, read_facts_of

    of: Any = view()
    labels = pq.read_table(folder / "labels.parquet", read_dictionary=["key"], use_threads=True)
    key = labels["key"].unify_dictionaries().combine_chunks()
    rows = KeyedRows(key.dictionary.to_pylist(), key.indices.to_numpy().astype(np.int64), labels["t"].to_numpy(), in_file_order)
    joining = Joining(of, of.features, Layout.of(of), rows)
    edges = np.searchsorted([bucket_of(name) for name in rows.keys], np.arange(BUCKETS + 1))
    for bucket in range(BUCKETS):
        first, last = int(edges[bucket]), int(edges[bucket + 1])
        facts = read_facts_of(of, folder / f"{bucket:02d}.parquet", rows.keys[first:last], joining.since, joining.until)
        joining.fill(first, last, facts, None)
    return dict(zip(FEATURES, joining.columns, strict=True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        run(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
