"""S02: CPU of a Predict call of one row at 16 callers, against an empty gRPC call; logging, access and metrics on.

    PERENNIAL_ENV_FILE=.perennial/env python bench/s02_predict_rate.py        (without a running stack it starts one)

CPU is the server process's, all threads, the sending to Kafka included: the wait for the sender is part of the round.
"""

import asyncio

import uvloop

from bench.serving import cpu_s, line, loaded, servers

ROUNDS, SECONDS, CALLERS = 4, 3.0, 16


async def main() -> None:
    async with servers() as both:
        raw = both.request(1)
        await loaded(lambda: both.predict(raw), callers=CALLERS, seconds=2.0)
        await loaded(both.empty, callers=CALLERS, seconds=1.0)
        calls, cpu, wall, floor_calls, floor_cpu = 0, 0.0, 0.0, 0, 0.0
        for _ in range(ROUNDS):
            before = cpu_s(both.pid)
            count, seconds = await loaded(lambda: both.predict(raw), callers=CALLERS, seconds=SECONDS)
            await asyncio.sleep(1.0)  # what was logged is sent
            calls, cpu, wall = calls + count, cpu + cpu_s(both.pid) - before, wall + seconds
            before = cpu_s(both.floor_pid)
            count, _ = await loaded(both.empty, callers=CALLERS, seconds=SECONDS)
            floor_calls, floor_cpu = floor_calls + count, floor_cpu + cpu_s(both.floor_pid) - before
        line("S02", "Predict 1 row, 16 callers, CPU a call", cpu / calls * 1e6, floor_cpu / floor_calls * 1e6, "us", "<= 1.5")
        print(f"     {calls / wall:,.0f} calls/s with client, server and Kafka on the same cores")


if __name__ == "__main__":
    uvloop.run(main())
