"""Nothing acknowledged is lost, and answers go on, when processes die and servers are away."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sized
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from perennial.errors import DataLoss, PerennialError
from perennial.runtime.config import ServiceConfig
from perennial.runtime.objects import S3Objects
from perennial.topics import PREDICTIONS
from perennial.v1.registry_pb2 import GetModelVersionRequest

from tests.serving import models
from tests.serving.world import Ledger, World, ids, until, values

NOWHERE = {
    "PERENNIAL_SERVING__DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:9/none",
    "PERENNIAL_SERVING__KAFKA_BOOTSTRAP": "127.0.0.1:9",
    "PERENNIAL_SERVING__REDIS_URL": "redis://127.0.0.1:9",
    "PERENNIAL_SERVING__S3_ENDPOINT": "http://127.0.0.1:9",
    "PERENNIAL_SERVING__REGISTRY_ADDRESS": "127.0.0.1:9",
    "PERENNIAL_SERVING__FEATURE_ADDRESS": "127.0.0.1:9",
}


@pytest_asyncio.fixture(loop_scope="session")
async def deployment(world: World, model: str) -> str:
    """A deployment in arrival time."""
    await world.register(model, models.prices())
    return (await world.deploy(model)).spec.name


async def all_sent(world: World, deployment: str, acknowledged: set[tuple[str, int]]) -> Ledger:
    """The ledger once every acknowledged row is on the topic."""

    async def complete() -> Ledger | None:
        ledger = await Ledger.of(world, PREDICTIONS, deployment)
        return ledger if acknowledged <= set(ledger.rows) else None

    found: Ledger = await until(complete, "every acknowledged row on the topic", 40)
    return found


async def test_kills_under_load_lose_and_double_nothing(world: World, deployment: str) -> None:
    """F01: what was answered is on the topic with that answer; what is there beyond it belongs to calls without an answer."""
    acknowledged: dict[tuple[str, int], float] = {}
    unknown = 0
    stop = asyncio.Event()

    async def caller(seed: int) -> None:
        nonlocal unknown
        turn = seed
        while not stop.is_set():
            turn += 1
            asked = models.rows(turn % 4 + 1, first=turn)
            try:
                answer = await world.predict(deployment, asked, timeout=2)
            except PerennialError:
                unknown += turn % 4 + 1
                await asyncio.sleep(0.02)
                continue
            assert values(answer) == pytest.approx(models.expected(asked))
            for place, value in zip(ids(answer), values(answer), strict=True):
                assert place not in acknowledged, "an id was given twice"
                acknowledged[place] = value

    callers = [asyncio.create_task(caller(seed)) for seed in range(8)]
    for _ in range(3):
        before = len(acknowledged)
        await until(_value(partial(_more, acknowledged, before + 200)), "calls answered", 30)
        await world.serving.kill()
        await world.serving.start()
    await until(_value(partial(_more, acknowledged, len(acknowledged) + 50)), "calls answered by the last process", 30)
    stop.set()
    await asyncio.gather(*callers)
    ledger = await all_sent(world, deployment, set(acknowledged))
    assert {place: ledger.outputs[place] for place in acknowledged} == pytest.approx(acknowledged)
    assert len(set(ledger.rows) - set(acknowledged)) <= unknown
    assert not ledger.gaps
    streams = {stream for stream, _ in ledger.rows}
    assert len(streams) == 4
    for stream in streams:
        places = sorted(n for s, n in ledger.rows if s == stream)
        assert places == list(range(1, len(places) + 1)), "positions without holes"
    assert len(set(ledger.ended) & streams) == 3, "the dead processes' streams have ended"


def _more(found: Sized, than: int) -> bool:
    return len(found) > than


def _value(check: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def found() -> object:
        return check()

    return found


async def test_a_start_with_everything_down_answers_from_its_own_disk(world: World, deployment: str) -> None:
    """F04: PostgreSQL, Kafka, Valkey, S3, registry and features away: answers go on, also after a start; all counted later."""
    asked = models.rows(5)
    acknowledged = set(ids(await world.predict(deployment, asked)))
    await world.serving.kill()
    await world.serving.start(**NOWHERE)
    for _ in range(10):
        answer = await world.predict(deployment, asked)
        assert values(answer) == pytest.approx(models.expected(asked))
        acknowledged |= set(ids(answer))
    await world.serving.kill()
    await world.serving.start(**dict.fromkeys(NOWHERE, "") | _given(world))
    ledger = await all_sent(world, deployment, acknowledged)
    assert set(ledger.rows) == acknowledged
    assert set(ledger.rows.values()) == {1}


def _given(world: World) -> dict[str, str]:
    """The variables that NOWHERE replaced, as they were."""
    given = world.platform.variables
    names = {
        "KAFKA_BOOTSTRAP": "PERENNIAL_KAFKA__BOOTSTRAP", "REDIS_URL": "REDIS_URL", "S3_ENDPOINT": "S3_ENDPOINT",
        "DATABASE_URL": "PERENNIAL_SERVING__DATABASE_URL",
    }  # fmt: skip
    found = {f"PERENNIAL_SERVING__{name}": given[source] for name, source in names.items()}
    for peer in ("registry", "feature"):
        found[f"PERENNIAL_SERVING__{peer.upper()}_ADDRESS"] = world.platform.address(peer)
    return found


async def test_a_request_id_is_known_after_a_kill(world: World, deployment: str) -> None:
    """The map of answers is rebuilt from the spool: a repeat after a kill -9 gets the first answer and is counted once."""
    request_id = secrets.token_hex(8)
    first = await world.predict(deployment, models.rows(3), request_id=request_id)
    await world.serving.kill()
    await world.serving.start()
    assert await world.predict(deployment, models.rows(3), request_id=request_id) == first
    ledger = await all_sent(world, deployment, set(ids(first)))
    assert len(ledger.rows) == 3


async def test_a_torn_record_ends_the_spool_and_not_the_drain(world: World, deployment: str) -> None:
    """Half a record at the end of a dead spool is what nobody was answered; what came before is sent."""
    places = ids(await world.predict(deployment, models.rows(4)))
    spool = _home(world) / "spool" / places[0][0].split(".")[0]
    await world.serving.kill()
    segment = max(spool.glob("*.segment"))
    with segment.open("ab") as file:
        file.write(b"\x40\x00\x00\x00half a record")
    await world.serving.start()
    ledger = await all_sent(world, deployment, set(places))
    assert set(ledger.rows) == set(places)
    await until(_value((spool / "drained").exists), "the spool is drained")


async def test_bytes_that_changed_on_the_own_disk_are_fetched_again(world: World, model: str) -> None:
    """F10: digests are checked at every load; a damaged cache heals from the store."""
    await world.register(model, models.prices(7.0))
    deployment = await world.deploy(model)
    digest = deployment.champion_artifact.rsplit("/", 1)[-1]
    path = _home(world) / "models" / digest / "model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    await world.serving.restart()
    asked = models.rows(2)
    assert values(await world.predict(deployment.spec.name, asked)) == pytest.approx(models.expected(asked, 7.0))
    assert path.read_bytes() == data


async def test_an_artifact_with_another_digest_is_refused(world: World, model: str) -> None:
    """F10: bytes in the store that are not the ones registered never answer anybody."""
    await world.register(model, models.prices(8.0))
    prefix = (await world.call("GetModelVersion", _version(model), service="registry")).model_version.artifact_prefix
    objects = _objects(world)
    data = await objects.get(f"{prefix}/model.onnx")
    await objects.put(f"{prefix}/model.onnx", data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataLoss):
        await world.deploy(model)


async def test_a_snapshot_somebody_changed_is_not_used(world: World, deployment: str) -> None:
    """Routing from the disk is signed: another byte, and a start without PostgreSQL answers nothing."""
    path = _home(world) / "snapshot.json"
    await world.serving.stop()
    text = path.read_bytes()
    path.write_bytes(text.replace(deployment.encode(), deployment[::-1].encode()))
    await world.serving.start(**NOWHERE)
    with pytest.raises(PerennialError, match="no deployment"):
        await world.predict(deployment, models.rows(1))
    await world.serving.restart(**_given(world))

    async def answers() -> bool:
        return bool(await world.predict(deployment, models.rows(1)))

    await until(answers, "an answer")


def _home(world: World) -> Path:
    found = list(world.platform.home.folder.rglob("serving/spool"))
    assert len(found) == 1
    return found[0].parent


def _version(model: str) -> GetModelVersionRequest:
    return GetModelVersionRequest(name=model, version="@champion")


def _objects(world: World) -> S3Objects:
    given = world.platform.variables
    bucket = f"{world.platform.namespace}-{ServiceConfig.model_fields['model_bucket'].default}"
    keys = {"access_key": given["S3_ACCESS_KEY"], "secret_key": given["S3_SECRET_KEY"]}
    return S3Objects(given["S3_ENDPOINT"], bucket, **keys, region="us-east-1")

