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


async def test_a_request_that_comes_twice_is_one_job(platform: Platform) -> None:
    """Kafka repeats, and the monitor may repeat: the decision's id is unique."""
    digest, _ = await first_version(platform, "twice", rows.frame(days=10))
    cut = await snapshot(platform, "twice-live", rows.log(rows.frame(days=5, seed=2, first_day=10)))
    window = (rows.START_US + 10 * DAY, rows.START_US + 30 * DAY)
    for _ in range(2):
        await platform.publish(requested("d-twice", "twice", cut, window, first_training_set=digest))
    assert (await platform.finished("decision:d-twice")).state == pb.JOB_STATE_SUCCEEDED
    await platform.publish(requested("d-after", "twice", cut, window, first_training_set=digest))
    assert (await platform.finished("decision:d-after")).state == pb.JOB_STATE_SUCCEEDED
    listed = await platform.call("trainer", "ListJobs", pb.ListJobsRequest(model="twice"))
    assert [j.decision_id for j in listed.jobs] == ["d-after", "d-twice", ""]
    models = set()
    for number in ("1.0.1", "1.0.2"):
        asked = registry_pb2.GetModelVersionRequest(name="twice", version=number)
        version = (await platform.call("registry", "GetModelVersion", asked)).model_version
        models.add({f.name: f.sha256 for f in version.files}["model.onnx"])
    assert len(models) == 1


async def test_a_retraining_that_would_do_harm_is_declined(platform: Platform) -> None:
    """Nothing is registered; job and event say why, with figures."""
    await first_version(platform, "harm", rows.frame(rows=4000, days=10))
    cut = await snapshot(platform, "harm-live", rows.log(rows.frame(rows=60, days=20, seed=2, first_day=10)))
    await platform.publish(requested("d-harm", "harm", cut, (rows.START_US + 10 * DAY, rows.START_US + 40 * DAY)))
    job = await platform.finished("decision:d-harm")
    assert job.state == pb.JOB_STATE_DECLINED, job
    assert "held-out blocks" in job.reason
    assert job.metrics["judged_loss"] > job.metrics["judged_parent_loss"]
    said = await platform.heard(topics.TRAINING, 4, lambda e: getattr(e.message, "decision_id", "") == "d-harm")
    assert [getattr(e.message, "state", "") for e in said] == ["queued", "leased", "running", "declined"]
    model = await platform.call("registry", "GetModel", registry_pb2.GetModelRequest(name="harm"))
    assert model.model.latest_version == "1.0.0"


async def test_a_log_that_is_not_what_was_handed_over_fails_the_job(platform: Platform) -> None:
    """Digests are checked before anything is read: the job fails and names the object."""
    await first_version(platform, "forged", rows.frame(days=10))
    cut = await snapshot(platform, "forged-live", rows.log(rows.frame(days=5, seed=2, first_day=10)))
    cut.manifest_sha256 = "0" * 64
    await platform.publish(requested("d-forged", "forged", cut, (rows.START_US, rows.START_US + 30 * DAY)))
    job = await platform.finished("decision:d-forged")
    assert job.state == pb.JOB_STATE_FAILED
    assert cut.manifest_key in job.reason


async def test_a_request_that_cannot_be_right_goes_to_the_dead_letter(platform: Platform) -> None:
    """An empty window is refused with its reason; the consumer goes on."""
    cut = await snapshot(platform, "dead-live", rows.log(rows.frame(days=5)))
    await platform.publish(requested("d-dead", "dead", cut, (rows.START_US, rows.START_US)))
    letters = await platform.heard(topics.RETRAINING.dlq, 1, lambda e: getattr(e.message, "decision_id", "") == "d-dead")
    assert any(b"ends before it starts" in value for value in letters[0].headers.values())
