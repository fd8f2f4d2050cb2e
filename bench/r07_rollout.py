"""R07: how often is an equal challenger declined, and one that is a fifth worse promoted? 2,000 rollouts, a look an hour."""

import sys

import numpy as np
from perennial.stats.sequential import PairedBlock, decide

HOUR_US = 3_600_000_000


def rollout(seed: int, worse: float, day_effect: float, rows: int) -> tuple[str, int]:
    """The decision on one rollout and its hour; errors of mean 6, differences of sd 3 a row, a day effect on the difference."""
    random = np.random.default_rng(seed)
    blocks, today = [], 0.0
    start = int(random.integers(0, 24))
    for hour in range(100):
        if hour == 0 or (start + hour) % 24 == 0:
            today = random.normal(0, day_effect) if day_effect else 0.0
        count = int(random.poisson(rows / 24))
        gap = (worse + today) * 6 + random.normal(0, 3, count)
        base = float(random.gamma(count, 6)) if count else 0.0
        challenger = max(0.0, base + float(gap.sum()))
        blocks.append(PairedBlock(hour * HOUR_US, (hour + 1) * HOUR_US, count, base, challenger, float((gap * gap).sum())))
        found = decide(blocks, elapsed_us=(hour + 1) * HOUR_US)
        if found.action != "wait":
            return found.action, hour + 1
    return "wait", 100


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("id    name                                                        share    limit")
    for rows in (900, 200):
        for effect, name in ((0.0, "independent"), (0.05, "day-clustered")):
            for worse, action, limit in ((0.0, "decline", 0.05), (0.2, "promote", 0.01)):
                found = [rollout(seed, worse, effect, rows) for seed in range(runs)]
                share = sum(a == action for a, _ in found) / runs
                hour = np.median([h for _, h in found])
                said = f"{worse:.0%} worse, {name}, {rows} rows a day: {action}d"
                print(f"R07   {said:50}   {share:8.4f}   {limit:.2f}   (median hour {hour:.0f})")


if __name__ == "__main__":
    main()
