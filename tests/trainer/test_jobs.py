"""Jobs over real gRPC, from the queue to a registered version."""

from perennial import topics
from perennial.v1 import registry_pb2
from perennial.v1 import trainer_pb2 as pb

from tests.trainer import rows
from tests.trainer.flows import built, recipe, submitted
from tests.trainer.platform import Platform


async def test_a_submitted_job_becomes_a_registered_champion(platform: Platform) -> None:
    """TRN-01, REG-22: a recipe and a training set give a version with lineage, metrics and the alias asked for."""
    digest = await built(platform, rows.frame())
    data = pb.TrainingData(training_set=digest)
    job = await submitted(platform, recipe("first"), data, first_alias="champion", request_id="r1")
    states = await platform.watched(job.job_id)
    assert states[-1].state == pb.JOB_STATE_SUCCEEDED, states[-1]
    asked = registry_pb2.GetModelVersionRequest(name="first", version="@champion")
    found = (await platform.call("registry", "GetModelVersion", asked)).model_version
    assert found.version == states[-1].version == "1.0.0"
    assert found.lineage.job_id == job.job_id
    assert found.metrics["mae"] < 1.0
    events = await platform.heard(topics.TRAINING, 5, lambda e: e.key.decode() == job.job_id)
    assert [getattr(e.message, "state", "") for e in events] == ["queued", "leased", "running", "registering", "succeeded"]
    assert {e.correlation_id for e in events} == {events[0].id}
    assert [e.causation_id for e in events[1:]] == [e.id for e in events[:-1]]
