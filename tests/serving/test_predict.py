"""Predictions: right answers, each one logged before it leaves."""

import asyncio
import math
import re

import httpx
import pytest
from perennial.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from perennial.frames import Table, decode
from perennial.package.signature import Pii
from perennial.topics import PREDICTIONS
from perennial.v1 import serving_pb2 as pb
from perennial.v1.common_pb2 import Blocks, Frame, Page
from perennial.v1.events_pb2 import PredictionBatch

from tests.serving import models
from tests.serving.world import Ledger, World, at, ids, stamp, until, values


async def test_answers_are_right_and_each_is_logged_with_its_inputs(world: World, model: str) -> None:
    """SRV-08, SRV-20: single and columnar calls; the log holds inputs as served, outputs, keys and times."""
    await world.register(model, models.prices())
    deployment = (await world.deploy(model)).spec.name
    asked = models.rows(100)
    answer = await world.predict(deployment, asked, keys=[f"e{i}" for i in range(100)])
    assert values(answer) == pytest.approx(models.expected(asked))
    one = models.rows(1, first=3)
    single = await world.predict(deployment, one)
    assert values(single) == pytest.approx(models.expected(one))
    places = ids(answer) + ids(single)
    assert [n for _, n in places] == list(range(1, 102))
    ledger = await until(lambda: _ledger_of(world, deployment, 101), "all rows on the topic")
    assert set(ledger.rows) == set(places)
    assert [ledger.outputs[place] for place in places] == pytest.approx(values(answer) + values(single))
    assert [ledger.keys[place] for place in places] == [f"e{i}" for i in range(100)] + [None]
    for i, place in enumerate(places[:100]):
        assert ledger.inputs[place] == {name: column[i] for name, column in asked.items()}


async def _ledger_of(world: World, deployment: str, rows: int) -> Ledger | None:
    ledger = await Ledger.of(world, PREDICTIONS, deployment)
    return ledger if len(ledger.rows) >= rows else None


async def test_a_classification_gives_labels_and_probabilities(world: World, model: str) -> None:
    """SRV-08: the label is the class of the greatest probability; the log says the same."""
    await world.register(model, models.classes())
    deployment = (await world.deploy(model)).spec.name
    answer = await world.predict(deployment, {"x": [3.0, 0.0, -3.0]})
    outputs = decode(answer.outputs)
    assert outputs.column("label").tolist()[::2] == ["high", "low"]
    assert outputs.select(["p:high", "p:middle", "p:low"]).numbers.sum(axis=1) == pytest.approx(1.0)

    async def logged() -> Table | None:
        found = [m for _, m in await world.events(PREDICTIONS) if isinstance(m, PredictionBatch) and m.deployment == deployment]
        return decode(found[0].outputs) if found else None

    again = await until(logged, "the rows on the topic")
    assert list(again.to_rows()) == list(outputs.to_rows())


WRONG = {
    "a missing column": ({"rooms": [1.0], "area": [1.0]}, "'district' is missing"),
    "an unknown column": ({**models.rows(1), "colour": ["red"]}, "'colour' is unknown"),
    "a text for a number": ({**models.rows(1), "rooms": ["one"]}, "'rooms' must hold numbers"),
    "a number for a text": ({**models.rows(1), "district": [1.0]}, "'district' must hold texts"),
    "a null where none is accepted": ({**models.rows(1), "rooms": [math.nan]}, "'rooms', row 0: null"),
    "an infinity": ({**models.rows(1), "area": [math.inf]}, "'area', row 0: inf"),
    "too many rows": (models.rows(11), "11 rows: a call has 1 to 10"),
    "no rows": ({"rooms": [], "area": [], "district": []}, "0 rows"),
}


@pytest.fixture(scope="module")
async def small(world: World) -> str:
    """A deployment that takes ten rows a call, with one column of personal data."""
    await world.register("small", models.prices(pii=Pii.HASH))
    return (await world.deploy("small", max_rows=10)).spec.name


@pytest.mark.parametrize("case", WRONG)
async def test_wrong_rows_are_refused_with_what_is_wrong(world: World, small: str, case: str) -> None:
    """F09: INVALID_ARGUMENT names the column and the row."""
    rows, said = WRONG[case]
    with pytest.raises(InvalidArgument, match=re.escape(said)):
        await world.predict(small, rows)


async def test_wrong_calls_are_refused(world: World, small: str) -> None:
    """F09: unknown deployment, keys and times that do not fit, times out of reach, broken frames."""
    with pytest.raises(NotFound, match="nowhere"):
        await world.predict("nowhere", models.rows(1))
    with pytest.raises(InvalidArgument, match="entity_keys: 1 for 2 rows"):
        await world.predict(small, models.rows(2), keys=["a"])
    with pytest.raises(InvalidArgument, match="event_times_us: 1 for 2 rows"):
        await world.predict(small, models.rows(2), times=[at(0)])
    with pytest.raises(InvalidArgument, match="within an hour of now"):
        await world.predict(small, models.rows(1), times=[at(0)])
    with pytest.raises(InvalidArgument, match="do not make"):
        await world.predict(small, Frame(blocks=Blocks(rows=3, number_names=["rooms"], numbers=b"1234")))
    with pytest.raises(FailedPrecondition, match="follows arrival"):
        await world.advance(small, at(1))
    with pytest.raises(FailedPrecondition, match="follows arrival"):
        await world.settle(small, at(1))
    with pytest.raises(AlreadyExists):
        await world.deploy("small", name=small)
    with pytest.raises(NotFound):
        await world.deploy("no-such-model")
    with pytest.raises(InvalidArgument, match=r"rollout\.steps"):
        await world.deploy("small", rollout=pb.RolloutPolicy(steps=[500, 100]))


async def test_event_time_needs_times_not_before_the_watermark(world: World, model: str) -> None:
    """A replay gives a time a row; what comes after its watermark is refused, and the watermark never goes back."""
    await world.register(model, models.prices())
    deployment = (await world.deploy(model, time=pb.TIME_MODE_EVENT)).spec.name
    with pytest.raises(InvalidArgument, match="every row needs one"):
        await world.predict(deployment, models.rows(1))
    await world.predict(deployment, models.rows(1), times=[at(1)])
    await world.advance(deployment, at(2))
    with pytest.raises(InvalidArgument, match="before the watermark"):
        await world.predict(deployment, models.rows(1), times=[at(2) - 1])
    await world.predict(deployment, models.rows(1), times=[at(2)])
    request = pb.AdvanceWatermarkRequest(deployment=deployment, time=stamp(at(1)))
    assert (await world.call("AdvanceWatermark", request)).time == stamp(at(2))
    ledger = await until(lambda: _ledger_of(world, deployment, 2), "the rows on the topic")
    marks = [(p.next_n, p.watermark_us) for p in ledger.progress]
    assert marks[0] == (2, at(2))


async def test_a_request_id_gives_the_first_answer_again(world: World, small: str) -> None:
    """The same id and body is answered once and counted once, at the same time too; another body is refused."""
    first, second = await asyncio.gather(*(world.predict(small, models.rows(3), request_id="r-1") for _ in range(2)))
    third = await world.predict(small, models.rows(3), request_id="r-1")
    assert first == second == third
    with pytest.raises(InvalidArgument, match="r-1 was used with another body"):
        await world.predict(small, models.rows(2), request_id="r-1")
    after = await world.predict(small, models.rows(1))
    assert ids(after)[0][1] == ids(first)[-1][1] + 1


async def test_personal_data_does_not_reach_the_log(world: World, small: str) -> None:
    """The model sees the text, the spool only its keyed hash, the same for the same text."""
    asked = models.rows(4)
    answer = await world.predict(small, asked)
    assert values(answer) == pytest.approx(models.expected(asked))
    secret = await world.predict(small, {**models.rows(1), "district": ["17 Hidden Avenue"]}, request_id="r-pii")

    async def logged() -> list[str] | None:
        ledger = await Ledger.of(world, PREDICTIONS, small)
        places = ids(answer) + ids(secret)
        return [ledger.inputs[p]["district"] for p in places] if set(places) <= set(ledger.rows) else None

    found = await until(logged, "the rows on the topic")
    assert found[0] == found[2] != found[1] == found[3]
    assert {len(text) for text in found} == {32}
    spools = list(world.platform.home.folder.rglob("*.segment"))
    assert spools
    assert not any(b"Hidden Avenue" in path.read_bytes() for path in spools)


async def test_predictions_are_counted(world: World, small: str) -> None:
    """OPS-01: rows, errors and latency under the documented names."""
    await world.predict(small, models.rows(5))
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{world.serving.metrics_url}/metrics")).text
    line = next(x for x in text.splitlines() if x.startswith("ml_predictions_total{") and f'deployment="{small}"' in x)
    assert float(line.rsplit(" ", 1)[1]) >= 5
    assert 'version="1.0.0"' in line
    assert "ml_prediction_latency_seconds_bucket" in text
    assert "perennial_spool_pending_rows" in text
    for name in ("ml_prediction_errors_total", "ml_system_cpu_usage_percent"):
        assert f"# TYPE {name}" in text or f"# TYPE {name.removesuffix('_total')}" in text


async def test_a_retired_deployment_ends_its_streams_and_answers_no_more(world: World, model: str) -> None:
    """Its history stays, its calls are refused."""
    await world.register(model, models.prices())
    deployment = (await world.deploy(model)).spec.name
    answer = await world.predict(deployment, models.rows(2))
    after = await world.call("RetireDeployment", pb.RetireDeploymentRequest(name=deployment))
    assert after.deployment.retired
    with pytest.raises(FailedPrecondition, match="retired"):
        await world.predict(deployment, models.rows(1))
    stream = answer.runs[0].stream

    async def ended() -> bool:
        return (await Ledger.of(world, PREDICTIONS, deployment)).ended.get(stream) == 2

    await until(ended, "the stream's end on the topic")


async def test_policies_can_be_changed_and_deployments_listed(world: World, small: str) -> None:
    """A changed policy keeps the other one; lists page by name."""
    request = pb.UpdateDeploymentRequest(name=small, rollout=pb.RolloutPolicy(margin=0.2), request_id="u-1")
    after = (await world.call("UpdateDeployment", request)).deployment
    assert (after.spec.rollout.margin, list(after.spec.rollout.steps)) == (0.2, [100, 500, 1000])
    assert after.spec.monitoring.min_rows == 500
    names: list[str] = []
    token = ""
    while True:
        page = await world.call("ListDeployments", pb.ListDeploymentsRequest(page=Page(size=2, token=token)))
        names += [d.spec.name for d in page.deployments]
        if not (token := page.next_token):
            break
    assert names == sorted(set(names))
    assert small in names
