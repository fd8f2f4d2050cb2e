"""S13: how long from `perennial up` to the first prediction, and how much memory does it all take?

The floor is the servers alone (Kafka, PostgreSQL, Valkey, S3), started the same way in the same run.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from perennial.local.supervisor import Supervisor

PREDICTION_DEADLINE_S = 30.0


async def started(*, services: bool) -> tuple[float, dict[str, float]]:
    """Seconds until everything answers (with services: until the first prediction), and MB by part."""
    home = fresh_home()
    began = time.monotonic()
    try:
        async with Supervisor(home, services=services) as supervisor:
            if services:
                await first_prediction(home / "env")
            took = time.monotonic() - began
            memory = {part.name: megabytes(part.child.pid) for part in parts_of(supervisor) if part.child is not None}
        return took, memory
    finally:
        shutil.rmtree(home, ignore_errors=True)


def fresh_home() -> Path:
    """A folder that PostgreSQL's account may enter."""
    home = Path(tempfile.mkdtemp(prefix="perennial-bench-"))
    home.chmod(0o711)
    return home


def parts_of(supervisor: Any) -> list[Any]:
    """The servers and services of a supervisor."""
    return [*supervisor._servers, *supervisor._services]  # noqa: SLF001 a benchmark looks inside


def megabytes(pid: int) -> float:
    """Memory of a process and its children, shared pages counted once (PSS)."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in family) / 1e6)


async def first_prediction(env_file: Path) -> None:
    """Registers a model that was trained elsewhere, deploys it and asks it."""
    import numpy as np
    from perennial.client import AsyncPerennial, Table
    from perennial.package import package_model
    from perennial.v1.serving_pb2 import DeploymentSpec
    from sklearn.linear_model import LinearRegression

    rows = np.random.default_rng(1).normal(size=(50, 2))
    model = LinearRegression().fit(rows, rows.sum(axis=1))
    package = package_model(model, Table.of({"a": rows[:, 0], "b": rows[:, 1]}), task="regression")
    with tempfile.TemporaryDirectory() as folder:
        package.write(Path(folder))
        async with AsyncPerennial(env_file=env_file) as platform:
            await platform.models.register("sums", folder, first_alias="champion")
            await platform.deployments.create(DeploymentSpec(name="sums", model="sums"))
            await asyncio.wait_for(platform.predict("sums", [{"a": 1.0, "b": 2.0}]), PREDICTION_DEADLINE_S)


async def main() -> None:
    """Servers alone, then everything."""
    floor, _ = await started(services=False)
    ours, memory = await started(services=True)
    print(f"S13  up to first prediction  {ours:.1f} s  {floor:.1f} s (servers alone)  {ours / floor:.2f}  must: <= 12 s")
    print(f"S13  memory (PSS)  {sum(memory.values()):.0f} MB  must: services <= 1,200 MB")
    for name, size in sorted(memory.items(), key=lambda item: -item[1]):
        print(f"       {name:<10} {size:7.0f} MB")


if __name__ == "__main__":
    asyncio.run(main())
