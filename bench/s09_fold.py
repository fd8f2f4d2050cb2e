"""S09, the pure part: what does folding a row of 20 columns cost in batches, against the least that numpy could do?"""

import time
from collections.abc import Callable

import numpy as np
from perennial.frames import Table
from perennial.stats.fold import Folder
from perennial.stats.profile import build_profile

COLUMNS = 20


def best(work: Callable[[], object], runs: int, repeats: int = 7) -> float:
    """Least CPU seconds a run of several series: the machine may be shared."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(runs):
            work()
        found.append((time.process_time() - start) / runs)
    return min(found)


def floor(rows: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """A histogram a column: one searchsorted and one bincount each, nothing else."""
    return [np.bincount(np.searchsorted(edges, rows[:, place]), minlength=len(edges) + 1) for place in range(rows.shape[1])]


def main() -> None:
    random = np.random.default_rng(9)
    names = tuple(f"c{i}" for i in range(COLUMNS))
    reference = random.normal(size=(20_000, COLUMNS)).astype(np.float32)
    outputs = Table(20_000, ("prediction",), random.normal(size=(20_000, 1)))
    stamps = np.arange(20_000, dtype=np.int64) * 100_000_000
    profile = build_profile(Table(20_000, names, reference), times_us=stamps, outputs=outputs, output_times_us=stamps)
    folder = Folder(profile)
    edges = np.quantile(reference[:, 0], np.arange(1, 128) / 128)
    print("id    name                                        ours us/row   floor us/row   ratio")
    for size in (64, 256, 1000, 10_000):
        rows = random.normal(size=(size, COLUMNS)).astype(np.float32)
        table, answers = Table(size, names, rows), Table(size, ("prediction",), rows[:, :1])
        state = folder.fold(table, answers)
        runs = max(2, 20_000 // size)
        ours = best(lambda: state.merged(folder.fold(table, answers)), runs) / size * 1e6  # noqa: B023 - used at once
        least = best(lambda: floor(rows, edges), runs) / size * 1e6  # noqa: B023 - used at once
        print(f"S09   fold and merge, batches of {size:<6} x 20     {ours:11.3f}   {least:12.3f}   {ours / least:5.2f}")
    whole = state.to_bytes()
    print(f"S09   a pane as bytes ({len(whole)} bytes), us          {best(state.to_bytes, 50) * 1e6:11.1f}")


if __name__ == "__main__":
    main()
