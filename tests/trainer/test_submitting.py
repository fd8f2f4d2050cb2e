"""What is refused before a job is queued, and how jobs are asked for."""

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from perennial.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PerennialError, PermissionDenied
from perennial.v1 import common_pb2, events_pb2
from perennial.v1 import trainer_pb2 as pb

from tests.trainer import rows
from tests.trainer.flows import built, recipe, stamp, submitted
from tests.trainer.platform import Platform

SET = "f" * 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "Über"}, "lower-case"),
        ({"algorithm": "magic"}, "there are hist_gradient_boosting, lightgbm, linear"),
        ({"task": common_pb2.TASK_UNSPECIFIED}, "task must be"),
        ({"target": ""}, "names no target"),
        ({"target": "nothing"}, "no label column 'nothing'; it has target, kind"),
        ({"columns": ["x", "nowhere"]}, "no input column 'nowhere'; it has x, y, z, place"),
        ({"columns": ["x", "x"]}, "'x' is named twice"),
        ({"parameters": {"depth": 3}}, "no hyperparameter depth; it has"),
        ({"parameters": {"rounds": 0}}, "0.0 is not in 1 … 10000"),
        ({"parameters": {"rounds": 2.5}}, "not a whole number"),
        ({"parameters": {"objective": "l7"}}, "none of l1, l2, huber"),
        ({"parameters": {"learning_rate": "fast"}}, "is not a number"),
    ],
)
async def test_a_wrong_recipe_is_refused_with_what_would_be_right(platform: Platform, change: dict[str, Any], words: str) -> None:
    """TRN-07: the request is validated before anything is queued, and the answer says what there is."""
    digest = await built(platform, rows.frame())
    made = recipe(change.get("model", "refused"), **{k: v for k, v in change.items() if k != "model"})
    with pytest.raises(InvalidArgument) as refusal:
        await submitted(platform, made, pb.TrainingData(training_set=digest))
    assert words.lower() in refusal.value.message.lower().replace("'X'", "'x'"), refusal.value.message
    listed = await platform.call("trainer", "ListJobs", pb.ListJobsRequest(model="refused"))
    assert not listed.jobs


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (pb.TrainingData(training_set=SET), NotFound),
        (pb.TrainingData(training_set="../etc"), InvalidArgument),
        (pb.TrainingData(), InvalidArgument),
        (pb.TrainingData(log=pb.LogData(deployment="d", window_start=stamp(5), window_end=stamp(5))), InvalidArgument),
        (
            pb.TrainingData(log=pb.LogData(
                deployment="d", window_start=stamp(1), window_end=stamp(2), first_training_set=SET,
                snapshot=events_pb2.LogSnapshot(snapshot_id="s", manifest_key=f"log/d/{SET}.json", manifest_sha256=SET),
            )),
            NotFound,
        ),
    ],
)  # fmt: skip
async def test_data_that_is_not_there_is_refused(platform: Platform, data: pb.TrainingData, error: type[PerennialError]) -> None:
    """A job whose rows cannot be found is never queued."""
    with pytest.raises(error):
        await submitted(platform, recipe("nodata"), data)


async def test_the_same_request_gives_the_same_job(platform: Platform) -> None:
    """A repeated request_id gives the first answer; with another body it is refused."""
    digest = await built(platform, rows.frame())
    data = pb.TrainingData(training_set=digest)
    first = await submitted(platform, recipe("once"), data, request_id="same")
    assert (await submitted(platform, recipe("once"), data, request_id="same")).job_id == first.job_id
    with pytest.raises(AlreadyExists):
        await submitted(platform, recipe("once", rounds=31), data, request_id="same")
    await platform.finished(first.job_id)


async def test_jobs_are_found_by_id_and_listed_newest_first(platform: Platform) -> None:
    """TRN-08: status by id, lists by page, and wrong keys and pages are named."""
    digest = await built(platform, rows.frame())
    ids = [(await submitted(platform, recipe("listed"), pb.TrainingData(training_set=digest))).job_id for _ in range(3)]
    page = await platform.call("trainer", "ListJobs", pb.ListJobsRequest(model="listed", page=common_pb2.Page(size=2)))
    rest = await platform.call(
        "trainer", "ListJobs", pb.ListJobsRequest(model="listed", page=common_pb2.Page(size=2, token=page.next_token))
    )
    assert [j.job_id for j in (*page.jobs, *rest.jobs)] == ids[::-1]
    assert not rest.next_token
    found = await platform.call("trainer", "GetJob", pb.GetJobRequest(job_id=ids[0]))
    assert found.job.recipe.columns == ["place", "x", "y", "z"]
    with pytest.raises(NotFound):
        await platform.call("trainer", "GetJob", pb.GetJobRequest(job_id="decision:none"))
    with pytest.raises(NotFound):
        await platform.watched("none")
    with pytest.raises(InvalidArgument):
        await platform.call("trainer", "ListJobs", pb.ListJobsRequest(page=common_pb2.Page(size=1001)))
    with pytest.raises(InvalidArgument):
        await platform.call("trainer", "ListJobs", pb.ListJobsRequest(page=common_pb2.Page(token="x")))
    for job in ids:
        await platform.call("trainer", "CancelJob", pb.CancelJobRequest(job_id=job)) if job != ids[0] else None
    await platform.finished(ids[0])


async def test_algorithms_say_what_they_take(platform: Platform) -> None:
    """TRN-15: the table of algorithms, with defaults, over the wire."""
    answer = await platform.call("trainer", "ListAlgorithms", pb.ListAlgorithmsRequest())
    found = {a.name: a for a in answer.algorithms}
    assert sorted(found) == ["hist_gradient_boosting", "lightgbm", "linear"]
    assert all(not a.missing and len(a.tasks) == 2 for a in found.values())
    assert dict(found["lightgbm"].hyperparameters)["objective"] == "l1"


async def test_a_viewer_may_look_and_not_submit(platform: Platform) -> None:
    """Roles come from the proto's access option."""
    from perennial.runtime.tokens import ServiceKey, audience_of

    key = ServiceKey(platform.config.secret("service_key", "service-key"))
    token = key.token("monitor", audience=audience_of(platform.config))
    await platform.call("trainer", "ListAlgorithms", pb.ListAlgorithmsRequest(), token=token)
    with pytest.raises(PermissionDenied):
        await platform.call("trainer", "SubmitTraining", pb.SubmitTrainingRequest(recipe=recipe("no")), token=token)


def test_an_algorithm_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAILED_PRECONDITION names the extra."""
    from services.trainer import algorithms

    needs = (("no_such_library", "perennial-mlops[trainer] (lightgbm)"),)
    monkeypatch.setattr(type(algorithms.ALGORITHMS["lightgbm"]), "needs", needs)
    with pytest.raises(FailedPrecondition, match=r"install perennial-mlops\[trainer\]"):
        algorithms.named("lightgbm")


def test_hyperparameters_come_back_with_their_types() -> None:
    """A Struct knows only doubles; an algorithm makes whole numbers of them again."""
    from services.trainer import algorithms, wire

    given = Struct()
    given.update({"rounds": 7, "learning_rate": 1})
    read = wire.recipe_from(pb.Recipe(model="m", task=common_pb2.TASK_REGRESSION, hyperparameters=given)).hyperparameters
    checked = algorithms.ALGORITHMS["lightgbm"].checked(read)
    assert (checked["rounds"], type(checked["rounds"])) == (7, int)
    assert (checked["learning_rate"], type(checked["learning_rate"])) == (1.0, float)
