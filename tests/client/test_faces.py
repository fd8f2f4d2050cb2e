"""Are the two clients one?"""

from __future__ import annotations

import inspect

import pytest
from perennial.client import AsyncPerennial, Perennial, Table
from perennial.client._async.calls import AsyncCalls
from perennial.client.connection import Connection
from perennial.client.rows import as_table, as_us
from perennial.errors import InvalidArgument, Unauthenticated

PARTS = ("models", "features", "training", "deployments", "monitoring")


@pytest.mark.parametrize("part", ["", *PARTS])
def test_both_clients_have_the_same_methods_and_arguments(part: str) -> None:
    """What one client can, the other can, by the same names."""
    faces = [Perennial(token="t"), AsyncPerennial(token="t")]
    blocking, asynchronous = (getattr(face, part) if part else face for face in faces)
    names = {name for name in dir(blocking) if not name.startswith("_")}
    assert names == {name for name in dir(asynchronous) if not name.startswith("_")}
    for name in names:
        one, other = getattr(blocking, name), getattr(asynchronous, name)
        if callable(one):
            assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters)


def test_no_token_is_said_with_the_way_to_one(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token nothing is called; the error says where one comes from."""
    monkeypatch.chdir(str(tmp_path))
    for name in ("PERENNIAL_TOKEN", "PERENNIAL_ADMIN_TOKEN", "PERENNIAL_ENV_FILE", "PERENNIAL_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unauthenticated, match="perennial up"):
        Connection.find()


def test_a_token_is_never_printed() -> None:
    """A connection shows where it goes and not what opens the door."""
    assert "hush" not in repr(Connection.find(token="hush"))


def test_rows_may_come_in_any_usual_form() -> None:
    """Columns, row mappings and data frames are the same table."""
    import polars as pl

    rows = [{"x": 1.0, "t": "a"}, {"x": 2.0, "t": None}]
    wanted = list(as_table(rows).to_rows())
    assert wanted == rows
    assert list(as_table({"x": [1.0, 2.0], "t": ["a", None]}).to_rows()) == rows
    assert list(as_table(pl.DataFrame(rows)).to_rows()) == rows
    assert as_table(Table.of({"x": [1.0]})).rows == 1
    with pytest.raises(InvalidArgument):
        as_table(3)


def test_a_time_without_a_zone_is_refused() -> None:
    """A naive datetime could mean any of twenty-four hours."""
    from datetime import datetime

    with pytest.raises(InvalidArgument, match="time zone"):
        as_us(datetime(2030, 1, 1))  # noqa: DTZ001 that is the point


async def test_a_failure_arrives_as_the_platforms_error() -> None:
    """Nobody has to know gRPC's exceptions."""
    from perennial.errors import Unavailable
    from perennial.v1.serving_pb2 import GetDeploymentRequest
    from perennial.v1.serving_pb2_grpc import ServingServiceStub

    async with AsyncCalls(Connection.find(token="t", addresses={"serving": "127.0.0.1:1"})) as calls:
        with pytest.raises(Unavailable):
            await calls.unary(calls.stub("serving", ServingServiceStub).GetDeployment, GetDeploymentRequest(name="x"), 2.0)
