"""Rows in JSON, in pure functions and through a real feature service."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.frames import decode
from perennial.runtime.service import Runtime
from perennial.v1 import common_pb2 as common
from perennial.v1 import feature_pb2, registry_pb2, serving_pb2

from services.feature.__main__ import MIGRATIONS, build
from services.feature.config import FeatureConfig
from services.gateway.wire import messages
from tests.gateway.conftest import Rest, started, stopped

NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.lists(st.fixed_dictionaries({"n": NUMBERS, "t": TEXTS}), min_size=1)


def predict(**value: Any) -> serving_pb2.PredictRequest:
    """The request of a body."""
    found = messages.request_of(serving_pb2.PredictRequest, variables={"deployment": "d"}, query=[], body="*", value=value)
    assert isinstance(found, serving_pb2.PredictRequest)
    return found


@given(ROWS)
def test_rows_survive_both_ways(rows: list[dict[str, Any]]) -> None:
    """A list of objects becomes a packed frame and comes back; a column of nothing but nulls stays null."""
    frame = predict(rows=rows).rows
    assert frame.WhichOneof("encoding") == "blocks"
    back = messages.body_value(messages.json_of(serving_pb2.PredictResponse(outputs=frame)))["outputs"]
    assert [{"n": row["n"], "t": row["t"]} for row in back] == rows


def test_a_column_a_row_lacks_is_null_there() -> None:
    """Rows need not all have the same columns; booleans are 0 and 1."""
    table = decode(predict(rows=[{"a": 1}, {"b": "x"}, {"a": True}]).rows)
    assert table.column("a")[0] == 1.0
    assert math.isnan(table.column("a")[1])
    assert table.column("a")[2] == 1.0
    assert list(table.column("b")) == [None, "x", None]


def test_no_rows_are_rows() -> None:
    """An empty list is a frame of no rows, and rows without columns are counted."""
    assert decode(predict(rows=[]).rows).rows == 0
    assert decode(predict(rows=[{}, {}]).rows).rows == 2


@pytest.mark.parametrize(
    "rows", [[{"a": 1}, {"a": "x"}], [{"a": "1"}, {"a": 1}], [{"a": [1]}], [{"a": {"b": 1}}], [1], [None], ["x"]]
)
def test_rows_that_do_not_agree_are_refused(rows: list[Any]) -> None:
    """A column is numbers or texts; a row is an object."""
    with pytest.raises(InvalidArgument, match=r"column|row"):
        predict(rows=rows)


def test_proto3_json_is_taken_as_it_is() -> None:
    """{"plain": …} and {"blocks": …} are what they are in proto3 JSON, and come so when asked."""
    plain = predict(rows={"plain": {"rows": [{"a": 1}]}}).rows
    assert plain.WhichOneof("encoding") == "plain"
    packed = predict(rows=[{"a": 1.0}])
    as_is = messages.body_value(messages.json_of(packed, packed=True))
    assert set(as_is["rows"]) == {"blocks"}
    assert predict(rows=as_is["rows"]).rows == packed.rows
    assert messages.body_value(messages.json_of(serving_pb2.PredictResponse(outputs=plain)))["outputs"] == [{"a": 1.0}]


def test_a_frame_named_by_a_digest_stays_packed() -> None:
    """Its columns are named by a signature the gateway does not have."""
    frame = common.Frame(blocks=common.Blocks(rows=1, numbers=b"\0" * 8, signature_digest="d"))
    found = messages.body_value(messages.json_of(serving_pb2.PredictResponse(outputs=frame)))
    assert found["outputs"]["blocks"]["signatureDigest"] == "d"


def test_a_text_column_is_a_list() -> None:
    """Texts and nulls, both ways; anything else is refused."""
    value = {"selections": [{"view": "v", "keys": ["a", None, "a"]}]}
    made = messages.message_of(feature_pb2.ReadOnlineRequest, value)
    assert messages.body_value(messages.json_of(made))["selections"][0]["keys"] == ["a", None, "a"]
    with pytest.raises(InvalidArgument, match="texts"):
        messages.message_of(feature_pb2.ReadOnlineRequest, {"selections": [{"keys": [1]}]})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_json_breaks_the_reader(value: Any) -> None:
    """Whatever JSON comes, a message or InvalidArgument; never another error."""
    for kind in (serving_pb2.PredictRequest, feature_pb2.WriteFeaturesRequest, registry_pb2.UpsertModelRequest):
        for whole in (value, {"rows": value}, {"parts": value}, {"tags": value, "name": value}):
            try:
                messages.message_of(kind, whole)
            except InvalidArgument:
                continue


@pytest.fixture
async def features(rest: Rest, namespace: str, home: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway before a real feature service."""
    folders = {"data_dir": home, "secrets_dir": home / "secrets"}
    config = FeatureConfig.load(port=0, metrics_port=0, namespace=namespace, kafka_partitions=1, **folders)
    runtime = Runtime(config)
    await runtime.start(build, migrations=MIGRATIONS)
    process, ports = await started(home, FEATURE_ADDRESS=f"127.0.0.1:{runtime.port}", NAMESPACE=namespace)
    drained = asyncio.create_task(process.stderr.read()) if process.stderr else None
    headers = {"authorization": f"Bearer {rest.registry.token('admin')}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports['HTTP']}", headers=headers, timeout=30) as http:
        yield http
    await stopped(process)
    if drained:
        await drained
    await runtime.stop()


async def test_features_are_written_and_read_as_lists(features: httpx.AsyncClient) -> None:
    """A view, its rows and its features over REST: readable JSON all the way, through a real service."""
    view = {
        "name": "trips", "entity": "airport", "keyColumn": "airport",
        "columns": [{"name": "delay", "type": "COLUMN_TYPE_NUMBER", "nullable": True}],
        "features": [{"name": "last_delay", "aggregation": "AGGREGATION_LAST", "column": "delay"}],
    }  # fmt: skip
    made = await features.post("/api/v1/feature-views", json={"view": view})
    assert made.status_code == 200, made.text
    rows = [{"airport": "JFK", "delay": 5.5}, {"airport": "LGA", "delay": None}]
    part = {"view": "trips", "rows": rows, "eventTimesUs": [1_000_000, "1000000"], "knownAtUs": ["1000000", 1_000_000]}
    written = await features.post("/api/v1/features:write", json={"parts": [part], "stream": "s", "firstN": 1})
    assert written.status_code == 200, written.text
    asked = {"selections": [{"view": "trips", "keys": ["JFK", "LGA", "EWR"]}], "timesUs": [2_000_000]}
    read = await features.post("/api/v1/features:read", json=asked)
    assert [list(row.values()) for row in read.json()["features"]] == [[5.5], [None], [None]]
    packed = await features.post("/api/v1/features:read", json=asked, headers={"accept": "application/json; frames=packed"})
    assert packed.json()["features"]["blocks"]["rows"] == 3
