"""Retrainings that the monitor asks for, over Kafka, from the prediction log."""

import asyncio
import json

import polars as pl
from perennial import topics
from perennial.v1 import registry_pb2
from perennial.v1 import trainer_pb2 as pb

from tests.trainer import rows
from tests.trainer.flows import first_version, requested, snapshot
from tests.trainer.platform import Platform

DAY = rows.DAY_US


async def test_a_request_becomes_a_patch_version_in_its_chain(platform: Platform) -> None:
    """TRN-30: the recipe of the parent, the rows as served, the parent's signature, and the chain's ids all the way."""
    early = rows.frame(days=10)
    digest, _ = await first_version(platform, "again", early)
    served = rows.frame(days=10, seed=2, first_day=10, shift=2.0)
    cut = await snapshot(platform, "again-live", rows.log(served))
    window = (rows.START_US + 4 * DAY, rows.START_US + 20 * DAY)
    watching = asyncio.create_task(platform.watched("decision:d-again"))
    await asyncio.sleep(0)
    await platform.publish(requested("d-again", "again", cut, window, first_training_set=digest))
    states = await watching
    job = states[-1]
    assert job.state == pb.JOB_STATE_SUCCEEDED, job
    assert (job.version, job.parent, job.decision_id, job.deployment) == ("1.0.1", "1.0.0", "d-again", "again-live")
    assert job.metrics["rows"] == rows_expected(early, served, window)
    asked = registry_pb2.GetModelVersionRequest(name="again", version="1.0.1")
    version = (await platform.call("registry", "GetModelVersion", asked)).model_version
    parent = registry_pb2.GetModelVersionRequest(name="again", version="1.0.0")
    old = (await platform.call("registry", "GetModelVersion", parent)).model_version
    assert version.signature == old.signature
    assert version.parameters == old.parameters
    assert version.lineage.decision_id == "d-again"
    assert version.lineage.correlation_id == "chain-d-again"
    events = await platform.heard(topics.TRAINING, 5, lambda e: getattr(e.message, "decision_id", "") == "d-again")
    assert {e.correlation_id for e in events} == {"chain-d-again"}
    assert version.lineage.causation_id == events[3].id
    models = await platform.heard(topics.MODELS, 1, lambda e: getattr(e.message, "decision_id", "") == "d-again")
    assert models[0].correlation_id == "chain-d-again"
    assert json.loads(await platform.objects.get(f"{version.artifact_prefix}/manifest.json"))["parent"] == "1.0.0"


def rows_expected(early: pl.DataFrame, served: pl.DataFrame, window: tuple[int, int]) -> int:
    """The training set up to the first logged row, then the log's rows whose outcome was known at the cut."""
    first = served["event_time_us"].min()
    before = early.filter(pl.col("event_time_us").is_between(window[0], first, closed="left")).height
    return before + served.filter(pl.col("event_time_us") <= window[1] - 3_600_000_000).height
