"""Predictions: right answers, each one logged before it leaves."""

import asyncio

import pytest

from perennial.topics import PREDICTIONS
from tests.serving import models
from tests.serving.world import Ledger, World, ids, until, values


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
