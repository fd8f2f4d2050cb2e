"""S01: Predict of one row x 20 columns by one caller, against an empty gRPC call; logging, access and metrics on.

PERENNIAL_ENV_FILE=.perennial/env python bench/s01_predict_one.py        (without a running stack it starts one)
"""

from statistics import median

import uvloop

from bench.serving import line, servers, timed

ROUNDS, CALLS = 20, 150


async def main() -> None:
    async with servers() as both:
        raw = both.request(1)
        ours: list[float] = []
        floor: list[float] = []
        await timed(lambda: both.predict(raw), 500)
        await timed(both.empty, 500)
        for _ in range(ROUNDS):  # in turns, so that both meet the same machine
            ours += await timed(lambda: both.predict(raw), CALLS)
            floor += await timed(both.empty, CALLS)
        line("S01", "Predict 1 row x 20 columns, one caller, p50", median(ours) * 1e6, median(floor) * 1e6, "us", "<= 1.35")
        ours_p99, floor_p99 = (sorted(found)[int(len(found) * 0.99)] * 1e6 for found in (ours, floor))
        line("S01", "the same, p99", ours_p99, floor_p99, "us", "-")


if __name__ == "__main__":
    uvloop.run(main())
