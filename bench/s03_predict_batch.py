"""S03: Predict in batches of 1,000 rows, rows a second of one core, against ONNX Runtime alone; and what logging costs.

PERENNIAL_ENV_FILE=.perennial/env python bench/s03_predict_batch.py        (without a running stack it starts one)
"""

import asyncio
from time import process_time

import numpy as np
import uvloop
from perennial.frames import Table

from bench.serving import cpu_s, line, loaded, rows, servers

ROWS, ROUNDS, SECONDS = 1000, 4, 3.0


async def main() -> None:
    async with servers() as both:
        raw = both.request(ROWS)
        predictor = both.predictor
        given = rows(ROWS)
        table = Table(ROWS, given.number_names, given.numbers.astype(np.float32), {})
        await loaded(lambda: both.predict(raw), callers=2, seconds=2.0)
        answered, cpu, alone, alone_cpu = 0, 0.0, 0, 0.0
        for _ in range(ROUNDS):
            before = cpu_s(both.pid)
            count, _ = await loaded(lambda: both.predict(raw), callers=2, seconds=SECONDS)
            await asyncio.sleep(1.0)  # what was logged is sent
            answered, cpu = answered + count * ROWS, cpu + cpu_s(both.pid) - before
            began = process_time()
            for _ in range(200):
                predictor.run(table)
            alone, alone_cpu = alone + 200 * ROWS, alone_cpu + process_time() - began
        line("S03", "Predict 1,000 rows, rows/s a core", answered / cpu, alone / alone_cpu, "rows/s", ">= 300,000")


if __name__ == "__main__":
    uvloop.run(main())
