"""What S01, S02 and S03 share: a real serving process on the stack, an empty gRPC server beside it, and a model of 20 numbers."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import numpy as np
from perennial.frames import Table, encode
from perennial.package import ModelPackage, Predictor, open_package, package_model
from perennial.testing.platform import Platform
from perennial.testing.stack import RunningStack
from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2, registry_pb2_grpc, serving_pb2, serving_pb2_grpc

COLUMNS = tuple(f"x{i}" for i in range(20))
FLOOR = Path(__file__).with_name("empty_server.py")
_TICKS = os.sysconf("SC_CLK_TCK")


def model() -> ModelPackage:
    """A small forest over 20 numbers: about 2 us a row in batches."""
    from lightgbm import LGBMRegressor

    generator = np.random.default_rng(1)
    x = generator.normal(size=(2000, len(COLUMNS)))
    y = x[:, 0] * 2 + np.sin(x[:, 1]) + generator.normal(size=2000) * 0.1
    forest = LGBMRegressor(n_estimators=20, num_leaves=15, n_jobs=1, verbose=-1).fit(x, y)
    return package_model(forest, Table.of({name: x[:, i] for i, name in enumerate(COLUMNS)}), task="regression")


def rows(count: int) -> Table:
    """Rows of the model's columns."""
    return Table(count, COLUMNS, np.random.default_rng(2).normal(size=(count, len(COLUMNS))), {})


def cpu_s(pid: int) -> float:
    """CPU a process has used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass
class Servers:
    """Ours with a deployment, and the floor."""

    predict: Callable[..., Awaitable[Any]]
    empty: Callable[..., Awaitable[Any]]
    request: Callable[[int], bytes]
    pid: int
    floor_pid: int
    package: ModelPackage

    @property
    def predictor(self) -> Predictor:
        """The same model in this process: ONNX Runtime alone."""
        return open_package(self.package)


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Both servers, and calls of raw bytes to each, so that the client's own coding costs neither."""
    stack = RunningStack.named()
    with tempfile.TemporaryDirectory() as folder:
        stack = stack or RunningStack.started(Path(folder) / "stack")
        platform = await Platform.provisioned(stack.servers, Path(folder) / "platform")
        floor = subprocess.Popen([sys.executable, str(FLOOR)], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 before any load
        try:
            assert floor.stdout is not None
            port = int(floor.stdout.readline())
            package = model()
            process = await _deployed(platform, package)
            token = (("authorization", f"Bearer {platform.admin_token}"),)
            ours = grpc.aio.insecure_channel(platform.address("serving"))
            theirs = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            call: Any = ours.unary_unary("/perennial.v1.ServingService/Predict")
            empty: Any = theirs.unary_unary("/empty.Empty/Call")
            yield Servers(
                lambda raw: call(raw, metadata=token, timeout=10), lambda: empty(b"", timeout=10),
                lambda count: serving_pb2.PredictRequest(deployment="bench", rows=encode(rows(count))).SerializeToString(),
                process.pid, floor.pid, package,
            )  # fmt: skip
            await ours.close()
            await theirs.close()
        finally:
            floor.kill()
            floor.wait()
            await platform.close()
            await stack.stop()


async def _deployed(platform: Platform, package: ModelPackage) -> Any:
    await platform.service("registry")
    process = await platform.service("serving")
    token = (("authorization", f"Bearer {platform.admin_token}"),)

    async def parts() -> AsyncIterator[registry_pb2.RegisterModelVersionRequest]:
        files = [common.FileEntry(name=f.name, sha256=f.sha256, size=f.size) for f in package.entries]
        yield registry_pb2.RegisterModelVersionRequest(
            header=registry_pb2.RegisterHeader(name="bench", files=files, first_alias="champion")
        )
        for entry in package.entries:
            yield registry_pb2.RegisterModelVersionRequest(chunk=package.data(entry.name))

    async with grpc.aio.insecure_channel(platform.address("registry")) as channel:
        await registry_pb2_grpc.RegistryServiceStub(channel).RegisterModelVersion(parts(), metadata=token, timeout=30)
    async with grpc.aio.insecure_channel(platform.address("serving")) as channel:
        spec = serving_pb2.DeploymentSpec(name="bench", model="bench")
        request = serving_pb2.CreateDeploymentRequest(spec=spec, request_id=secrets.token_hex(8))
        await serving_pb2_grpc.ServingServiceStub(channel).CreateDeployment(request, metadata=token, timeout=30)
    return process


async def timed(call: Callable[[], Awaitable[Any]], count: int) -> list[float]:
    """Seconds of each of ``count`` calls, one after the other."""
    found = []
    for _ in range(count):
        began = perf_counter()
        await call()
        found.append(perf_counter() - began)
    return found


async def loaded(call: Callable[[], Awaitable[Any]], *, callers: int, seconds: float) -> tuple[int, float]:
    """Calls answered to so many callers, and the seconds it took."""
    count = 0
    end = perf_counter() + seconds

    async def caller() -> None:
        nonlocal count
        while perf_counter() < end:
            await call()
            count += 1

    began = perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return count, perf_counter() - began


def line(target: str, name: str, ours: float, floor: float, unit: str, limit: str) -> None:
    """One line of the report."""
    print(f"{target}  {name:<46} {ours:>10.4g} {floor:>10.4g} {unit:<12} ratio {ours / floor:6.2f}   must: {limit}")
