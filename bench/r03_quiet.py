"""R03: how often does a stationary, day-clustered stream ask for a retraining? 200 seeds of 30 windows x 20 columns."""

import sys

import numpy as np
from perennial.frames import Table
from perennial.stats.fold import Folder
from perennial.stats.profile import build_profile
from perennial.stats.report import DriftSettings, WindowReport, compare, persistent

DAYS, COLUMNS, PER_DAY = 30, 20, 300
SPREADS = (0.0, 0.1, 0.3, 1.0)


def replay(seed: int, spread: float) -> tuple[list[WindowReport], int]:
    """A reference of 30 days and 30 daily windows after it; a day shifts each column by ``spread`` of its deviation."""
    random = np.random.default_rng(seed)
    shift = np.repeat(random.normal(0, spread, (2 * DAYS, COLUMNS)), PER_DAY, axis=0)
    numbers = (shift + random.normal(size=shift.shape)).astype(np.float32)
    names = tuple(f"c{i}" for i in range(COLUMNS))
    stamps = np.arange(len(numbers), dtype=np.int64) * (86_400_000_000 // PER_DAY)
    first = DAYS * PER_DAY
    profile = build_profile(Table(first, names, numbers[:first]), times_us=stamps[:first])
    folder = Folder(profile)
    folds = [folder.fold(Table(PER_DAY, names, numbers[a : a + PER_DAY])) for a in range(first, 2 * first, PER_DAY)]
    naive = DriftSettings(method="psi", threshold=0.1)
    return [compare(profile, f) for f in folds], sum(bool(compare(profile, f, settings=naive).drifted) for f in folds)


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print("id    name                                            ours/1000   psi > 0.1/1000   limit")
    for place, spread in enumerate(SPREADS):
        requests = alarms = naive = 0
        for seed in range(place, seeds, len(SPREADS)):
            reports, fired = replay(seed, spread)
            requests += sum(bool(persistent(reports[max(0, i - 2) : i + 1])) for i in range(len(reports)))
            alarms += sum(bool(report.drifted) for report in reports)
            naive += fired
        windows = len(range(place, seeds, len(SPREADS))) * DAYS
        print(f"R03   requests, day effect {spread:.1f} sd, {windows} windows      {requests * 1000 / windows:9.2f}   "
              f"{naive * 1000 / windows:14.1f}   {1.0:5.1f}   (windows with an alarm {alarms * 1000 / windows:.1f}/1000)")


if __name__ == "__main__":
    main()
