"""A service stops in the order that loses nothing, and starts without what is not there."""

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2
from perennial.errors import PerennialError

from tests.runtime.conftest import Start, Trial
from tests.runtime.echo import EchoRequest

HEALTH = "grpc.health.v1.Health"


async def test_the_order_of_a_stop(start: Start) -> None:
    """NOT_SERVING → consumers → drained → spool → producers → clients, while a running call is let end."""
    seen: list[str] = []
    release = asyncio.Event()

    async def act(request: Any) -> str:
        await release.wait()
        seen.append("call answered")
        return "late"

    async def build(runtime: Any) -> None:
        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("background ended")

        def note(stage: str) -> Any:
            async def close() -> None:
                seen.append(stage)
                if stage == "consumers":
                    release.set()
                if stage == "drained":
                    raise RuntimeError("a failing step does not hold up the rest")

            return close

        runtime.background("forever", forever)
        for stage in ("clients", "producers", "spool", "drained", "consumers"):
            runtime.on_stop(stage, note(stage))

    trial = await start(act, build=build)
    watch = trial.call("Watch", "unary_stream", service=HEALTH, answer=health_pb2.HealthCheckResponse)
    statuses: list[int] = []

    async def watching() -> None:
        async for answer in watch(health_pb2.HealthCheckRequest(service=trial.runtime.name)):
            statuses.append(answer.status)
            seen.append("watcher told")

    watcher = asyncio.create_task(watching())
    running = asyncio.create_task(_text(trial))
    async with asyncio.timeout(10):
        while not statuses:
            await asyncio.sleep(0.01)
    await asyncio.wait_for(trial.runtime.stop(), 20)
    assert await running == "late"
    await asyncio.wait_for(watcher, 5)
    assert statuses == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    order = [name for name in seen if name != "watcher told"]
    assert order == ["background ended", "consumers", "call answered", "drained", "spool", "producers", "clients"]


async def _text(trial: Trial) -> str:
    return (await trial.call("Single")(EchoRequest(), metadata=trial.admin)).text  # type: ignore[no-any-return]


async def test_a_call_that_does_not_end_is_cut_after_the_grace(start: Start) -> None:
    """A stop is bounded whatever the handlers do."""

    async def act(request: Any) -> str:
        await asyncio.Event().wait()
        return ""

    trial = await start(act, grace_s=0.5)
    running = asyncio.create_task(_text(trial))
    await asyncio.sleep(0.2)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await trial.runtime.stop()
    assert loop.time() - begin < 8
    try:
        await running
    except grpc.aio.AioRpcError as failure:
        assert failure.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


async def nothing(request: Any) -> str:
    return "here"


async def test_a_service_starts_without_broker_database_and_store(start: Start) -> None:
    """F04: it answers, says what is missing in /readyz, and a call that needs the database says UNAVAILABLE."""
    nowhere = "127.0.0.1:9"
    trial = await start(
        nothing, kafka_bootstrap=nowhere, database_url=f"postgresql://a:b@{nowhere}/c", s3_endpoint=f"http://{nowhere}",
        startup_wait_s=0.5,
    )  # fmt: skip
    assert await _text(trial) == "here"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{trial.runtime.metrics_port}", timeout=15) as http:
        ready = await http.get("/readyz")
        strict = await http.get("/readyz?strict=1")
        assert (await http.get("/healthz")).text == "alive\n"
        assert (await http.get("/elsewhere")).status_code == 404
        assert (await http.post("/metrics")).status_code == 405
    assert (ready.status_code, strict.status_code) == (200, 503)
    conditions = ready.json()["conditions"]
    assert conditions["database"] == "not migrated yet"
    assert nowhere in conditions["kafka"] or "Unable to bootstrap" in conditions["kafka"]
    try:
        async with trial.runtime.postgres.transaction():
            raise AssertionError("there is no database")
    except PerennialError as error:
        assert error.status == "UNAVAILABLE"


async def test_health_answers_for_the_service_and_refuses_others(start: Start) -> None:
    """The standard protocol, without a token."""
    trial = await start(nothing)
    check = trial.call("Check", service=HEALTH, answer=health_pb2.HealthCheckResponse)
    for name in ("", trial.runtime.name, "tests.EchoService"):
        assert (await check(health_pb2.HealthCheckRequest(service=name))).status == health_pb2.HealthCheckResponse.SERVING
    try:
        await check(health_pb2.HealthCheckRequest(service="other"))
    except grpc.aio.AioRpcError as failure:
        assert failure.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_is_there_in_development_only(start: Start) -> None:
    """Production does not describe itself to strangers."""
    from grpc_reflection.v1alpha import reflection_pb2 as pb

    async def ask() -> Any:
        yield pb.ServerReflectionRequest(list_services="")

    for environment, there in (("development", True), ("production", False)):
        trial = await start(nothing, environment=environment)
        call = trial.call(
            "ServerReflectionInfo",
            "stream_stream",
            service="grpc.reflection.v1alpha.ServerReflection",
            answer=pb.ServerReflectionResponse,
        )
        try:
            names = {one.name async for answer in call(ask()) for one in answer.list_services_response.service}
        except grpc.aio.AioRpcError as failure:
            names = {failure.code().name}
        assert ("tests.EchoService" in names) is there, names


async def program(**environment: str) -> tuple[int, str]:
    """How a program that is told to stop one second after its start ends."""
    names = {f"PERENNIAL_{name}": value for name, value in environment.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.runtime.program",
        env={**os.environ, **names},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        await asyncio.wait_for(process.wait(), 6)
    except TimeoutError:
        process.send_signal(signal.SIGTERM)
    _, said = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode or 0, said.decode()


async def test_a_port_that_is_taken_is_told_in_a_line(start: Start) -> None:
    """Status 1 and a sentence, no trace of the inside."""
    trial = await start(nothing)
    secrets = str(trial.runtime.config.secrets_dir)
    status, said = await program(PORT=str(trial.runtime.port), SECRETS_DIR=secrets, NAMESPACE=trial.runtime.config.namespace)
    assert status == 1
    assert said.splitlines()[-1].startswith(f"program cannot start: 127.0.0.1:{trial.runtime.port} cannot be listened on")


async def test_a_start_that_waits_for_the_database_can_be_stopped(start: Start) -> None:
    """SIGTERM while starting ends in good order."""
    trial = await start(nothing)
    settings = {"DATABASE_URL": "postgresql://a:b@127.0.0.1:9/c", "STARTUP_WAIT_S": "60", "PORT": "0"}
    status, said = await program(SECRETS_DIR=str(trial.runtime.config.secrets_dir), **settings)
    assert (status, '"message": "stopped"' in said) == (0, True), said
