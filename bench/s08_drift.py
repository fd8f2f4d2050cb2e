"""S08: how long does a drift check of 100,000 x 20 take? Folding the window and the report, against numpy's own KS and PSI."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from perennial.frames import Table
from perennial.stats.fold import Folder
from perennial.stats.profile import build_profile
from perennial.stats.report import compare

COLUMNS, REFERENCE_ROWS = 20, 30_000


def best(work: Callable[[], object], repeats: int = 7) -> float:
    """Least CPU seconds of several runs: the machine may be shared."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def numpy_ks(reference: np.ndarray, window: np.ndarray) -> list[float]:
    """D of each column, the window sorted, the reference sorted beforehand."""
    ends = np.arange(1, len(reference) + 1) / len(reference)
    found = []
    for place in range(window.shape[1]):
        below = np.searchsorted(np.sort(window[:, place]), reference[:, place], side="right") / len(window)
        found.append(float(np.abs(below - ends).max()))
    return found


def numpy_psi(edges: np.ndarray, shares: np.ndarray, window: np.ndarray) -> list[float]:
    """PSI of each column over ten fixed bins."""
    found = []
    for place in range(window.shape[1]):
        counts = np.bincount(np.searchsorted(edges[:, place], window[:, place]), minlength=10) + 0.5
        held = counts / counts.sum()
        found.append(float(((held - shares[place]) * np.log(held / shares[place])).sum()))
    return found


def main() -> None:
    random = np.random.default_rng(8)
    reference = random.normal(size=(REFERENCE_ROWS, COLUMNS)).astype(np.float32)
    names = tuple(f"c{i}" for i in range(COLUMNS))
    stamps = np.arange(REFERENCE_ROWS, dtype=np.int64) * 86_400_000
    profile = build_profile(Table(REFERENCE_ROWS, names, reference), times_us=stamps)
    folder = Folder(profile)
    ordered = np.sort(reference, axis=0)
    edges = np.quantile(reference, np.arange(1, 10) / 10, axis=0)
    print("id    name                                     ours s     floor s    ratio")
    for rows in (10_000, 100_000, 400_000):
        window = random.normal(0.02, 1, size=(rows, COLUMNS)).astype(np.float32)
        table = Table(rows, names, window)
        folded = folder.fold(table)
        floor = best(partial(numpy_ks, ordered, window), 3)
        psi = best(partial(numpy_psi, edges, np.full((COLUMNS, 10), 0.1), window), 3)
        stream = best(partial(folder.fold, table))
        report = best(partial(compare, profile, folded))
        print(f"S08   fold {rows} x 20 (floor numpy KS)        {stream:8.4f}   {floor:8.4f}   {stream / floor:6.2f}")
        print(f"S08   fold {rows} x 20 (floor numpy PSI)       {stream:8.4f}   {psi:8.4f}   {stream / psi:6.2f}")
        print(f"S08   report on the fold (limit 0.03)          {report:8.4f}   {0.03:8.4f}   {report / 0.03:6.2f}")


if __name__ == "__main__":
    main()
