"""The one wrapper around every handler, in all four call shapes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import jwt
import pytest
from perennial.errors import BY_STATUS, NotFound
from perennial.runtime.access import NoPolicy
from perennial.runtime.identity import caller
from perennial.runtime.tokens import KnownKey, digest_of

from tests.runtime.conftest import Start, Trial
from tests.runtime.echo import BARE, Echo, EchoRequest

SHAPES = {"Single": "unary_unary", "Down": "unary_stream", "Up": "stream_unary", "Both": "stream_stream"}


async def echo(request: Any) -> str:
    if request.text == "boom":
        raise RuntimeError("the password is swordfish")
    if request.text in BY_STATUS:
        raise BY_STATUS[request.text](f"about {request.text}")
    return f"{request.text} by {caller().name}"


async def called(trial: Trial, method: str, request: Any, metadata: Any) -> list[str]:
    """The texts a call answers, whatever its shape."""
    shape = SHAPES.get(method, "unary_unary")
    call = trial.call(method, shape)

    async def requests() -> AsyncIterator[Any]:
        yield request

    answer = call(requests() if shape.startswith("stream") else request, metadata=metadata, timeout=10)
    if shape.endswith("stream"):
        return [one.text async for one in answer]
    return [(await answer).text]


async def refused(trial: Trial, method: str, request: Any, metadata: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await called(trial, method, request, metadata)
    return failure.value


@pytest.mark.parametrize("method", SHAPES)
async def test_a_call_is_answered_in_the_name_of_its_caller(start: Start, method: str) -> None:
    """The handler sees who calls, in every shape."""
    trial = await start(echo)
    assert set(await called(trial, method, EchoRequest(text="hello"), trial.admin)) == {"hello by admin"}


@pytest.mark.parametrize("method", SHAPES)
async def test_an_unexpected_failure_hides_its_text(start: Start, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not ours leaves as INTERNAL with the request's id, and the log has the rest."""
    trial = await start(echo)
    failure = await refused(trial, method, EchoRequest(text="boom"), (*trial.admin, ("x-request-id", "find-me")))
    assert failure.code() is grpc.StatusCode.INTERNAL
    assert failure.details() == "internal error (request find-me)"
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "find-me" in line]
    assert "swordfish" in json.dumps(lines)


@pytest.mark.parametrize("method", SHAPES)
@pytest.mark.parametrize("status", [name for name in BY_STATUS if name != "CANCELLED"])
async def test_an_error_keeps_its_status_and_text(start: Start, method: str, status: str) -> None:
    """Each of our errors is one canonical status."""
    trial = await start(echo)
    failure = await refused(trial, method, EchoRequest(text=status), trial.admin)
    assert (failure.code().name, failure.details()) == (status, f"about {status}")


@pytest.mark.parametrize("method", SHAPES)
async def test_bytes_that_are_no_message_are_refused(start: Start, method: str) -> None:
    """A malformed body is the caller's fault."""
    trial = await start(echo)
    failure = await refused(trial, method, b"\xff\xff\xff", trial.admin)
    assert (failure.code(), failure.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "the body is not a EchoRequest")


@pytest.mark.parametrize("method", SHAPES)
async def test_a_call_without_a_token_is_refused_before_its_body_is_read(start: Start, method: str) -> None:
    """Who is not known gets nothing parsed."""
    trial = await start(echo)
    failure = await refused(trial, method, b"\xff\xff\xff", ())
    assert failure.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_role_that_is_not_listed_is_refused(start: Start) -> None:
    """A viewer may not do what an approver may; an admin may do everything."""
    trial = await start(echo)
    trial.runtime.api_keys(_keys)
    failure = await refused(trial, "Closed", EchoRequest(text="x"), trial.bearer("viewer-key"))
    assert failure.code() is grpc.StatusCode.PERMISSION_DENIED
    assert await called(trial, "Single", EchoRequest(text="x"), trial.bearer("viewer-key")) == ["x by reader"]
    assert await called(trial, "Closed", EchoRequest(text="x"), trial.admin) == ["x by admin"]


async def _keys() -> list[KnownKey]:
    return [KnownKey(digest_of("viewer-key"), "reader", frozenset({"viewer"}))]


async def test_a_public_method_needs_no_token_but_refuses_a_wrong_one(start: Start) -> None:
    """A caller that shows a bad token is told so."""
    trial = await start(echo)
    assert await called(trial, "Public", EchoRequest(text="x"), ()) == ["x by anonymous"]
    assert (
        await refused(trial, "Public", EchoRequest(text="x"), trial.bearer("nonsense"))
    ).code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("change", [{"exp": 1}, {"aud": "perennial:elsewhere"}, {"iss": "somebody"}, {"sub": None}])
async def test_a_forged_or_expired_service_token_is_refused(start: Start, change: dict[str, Any]) -> None:
    """A service token holds for its platform and its ten minutes; its text is not repeated in the answer."""
    trial = await start(echo)
    token = trial.runtime.token()
    claims = jwt.decode(token, options={"verify_signature": False}) | change
    key = trial.runtime.config.secret("service_key", "service-key")
    forged = jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm="HS256")
    failure = await refused(trial, "Public", EchoRequest(text="x"), trial.bearer(forged))
    assert failure.code() is grpc.StatusCode.UNAUTHENTICATED
    assert forged not in (failure.details() or "")
    assert await called(trial, "Public", EchoRequest(text="x"), trial.bearer(token)) == [f"x by service:{trial.runtime.name}"]


async def test_a_token_signed_with_another_key_is_refused(start: Start) -> None:
    """Knowing the claims is not enough."""
    trial = await start(echo)
    claims = jwt.decode(trial.runtime.token(), options={"verify_signature": False})
    forged = jwt.encode(claims, "x" * 48, algorithm="HS256")
    assert (await refused(trial, "Single", EchoRequest(), trial.bearer(forged))).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_too_large_a_message_is_refused(start: Start) -> None:
    """Messages end at 4 MiB; metadata at 16 KiB."""
    trial = await start(echo)
    big = EchoRequest(text="x" * (5 * 1024 * 1024))
    assert (await refused(trial, "Single", big, trial.admin)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    heavy = (*trial.admin, ("x-weight", "y" * 20_000))
    assert (await refused(trial, "Single", EchoRequest(), heavy)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_caller_has_a_rate(start: Start) -> None:
    """Beyond its rate a caller is told so at once."""
    trial = await start(echo, calls_per_second=5.0)
    answers = []
    for _ in range(10):
        try:
            answers += await called(trial, "Single", EchoRequest(text="x"), trial.admin)
        except grpc.aio.AioRpcError as failure:
            assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 5 <= len(answers) < 10


async def test_a_method_without_an_access_option_keeps_the_service_from_starting(start: Start) -> None:
    """Nobody said who may call it, so it cannot be offered."""

    async def build(runtime: Any) -> None:
        runtime.add_servicer(Echo(echo), BARE)

    with pytest.raises(NoPolicy, match="BareService/Single"):
        await start(echo, build=build)


async def test_calls_are_counted_by_status(start: Start) -> None:
    """The metrics port shows every call by method and status."""
    import httpx

    trial = await start(echo)
    await called(trial, "Single", EchoRequest(text="x"), trial.admin)
    await refused(trial, "Single", EchoRequest(text=NotFound.status), trial.admin)
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{trial.runtime.metrics_port}/metrics")).text
    assert 'perennial_calls_total{method="tests.EchoService/Single",status="NOT_FOUND"}' in text
    assert 'perennial_call_seconds_bucket{le="0.001",method="tests.EchoService/Single"}' in text
    assert "ml_system_cpu_usage_percent" in text  # OPS-01
