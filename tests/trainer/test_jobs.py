"""Jobs over real gRPC, from the queue to a registered version."""

from perennial import topics
from perennial.v1 import common_pb2, feature_pb2, registry_pb2
from perennial.v1 import trainer_pb2 as pb
from perennial.frames import Table, encode

from tests.trainer import rows
from tests.trainer.platform import Platform


async def built(platform: Platform, data: object) -> str:
    """The digest of a training set built by the feature store."""
    frame = data
    inputs = {name: frame[name].to_list() for name in (*rows.INPUTS, "target", "kind")}

    async def parts():
        yield feature_pb2.BuildTrainingSetRequest(header=feature_pb2.TrainingSetHeader(name="t", label_columns=["target", "kind"]))
        for start in range(0, frame.height, 500):
            piece = {name: values[start : start + 500] for name, values in inputs.items()}
            yield feature_pb2.BuildTrainingSetRequest(rows=feature_pb2.TrainingRows(
                rows=encode(Table.of(piece)), event_times_us=frame["event_time_us"].to_list()[start : start + 500],
                entity_keys=frame["entity_key"].to_list()[start : start + 500]))

    answer = await platform.call("feature", "BuildTrainingSet", parts())
    return answer.training_set.digest


def recipe(model: str, **more: object) -> pb.Recipe:
    made = pb.Recipe(model=model, algorithm="lightgbm", task=common_pb2.TASK_REGRESSION, target="target", seed=7)
    made.hyperparameters.update({"rounds": 30})
    for name, value in more.items():
        setattr(made, name, value)
    return made


async def submitted(platform: Platform, made: pb.Recipe, data: pb.TrainingData, **more: object) -> pb.Job:
    answer = await platform.call("trainer", "SubmitTraining", pb.SubmitTrainingRequest(recipe=made, data=data, **more))
    return answer.job


async def test_a_submitted_job_becomes_a_registered_champion(platform: Platform) -> None:
    """TRN-01, REG-22: a recipe and a training set give a version with lineage, metrics and the alias asked for."""
    digest = await built(platform, rows.frame())
    job = await submitted(platform, recipe("first"), pb.TrainingData(training_set=digest), first_alias="champion", request_id="r1")
    states = await platform.watched(job.job_id)
    assert states[-1].state == pb.JOB_STATE_SUCCEEDED, states[-1]
    version = await platform.call("registry", "GetModelVersion", registry_pb2.GetModelVersionRequest(name="first", version="@champion"))
    found = version.model_version
    assert found.version == states[-1].version == "1.0.0"
    assert found.lineage.job_id == job.job_id
    assert found.metrics["mae"] < 1.0
    events = await platform.heard(topics.TRAINING, 5, lambda e: e.key.decode() == job.job_id)
    assert [e.message.state for e in events] == ["queued", "leased", "running", "registering", "succeeded"]
    assert {e.correlation_id for e in events} == {events[0].id}
    assert [e.causation_id for e in events[1:]] == [e.id for e in events[:-1]]
