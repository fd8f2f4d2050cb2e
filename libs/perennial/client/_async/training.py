"""Training jobs: ``client.training``."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from perennial.client._async.calls import AsyncCalls, pages
from perennial.errors import FailedPrecondition
from perennial.v1 import trainer_pb2 as pb
from perennial.v1.common_pb2 import Page, Task
from perennial.v1.trainer_pb2_grpc import TrainerServiceStub

_WATCH_DEADLINE_S = 6 * 3600.0
ENDED = frozenset({pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_DECLINED, pb.JOB_STATE_CANCELLED})


class AsyncTraining:
    """Submits, follows and cancels training jobs."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = calls

    @property
    def _stub(self) -> Any:
        return self._calls.stub("trainer", TrainerServiceStub)

    async def submit(
        self,
        model: str,
        *,
        training_set: str,
        target: str,
        algorithm: str = "lightgbm",
        task: str = "regression",
        columns: Sequence[str] = (),
        hyperparameters: Mapping[str, Any] | None = None,
        seed: int = 0,
        first_alias: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> pb.Job:
        """Queues a job on a training set (its digest)."""
        recipe = pb.Recipe(
            model=model,
            algorithm=algorithm,
            task=Task.Value(f"TASK_{task.upper()}"),
            target=target,
            columns=columns,
            seed=seed,
            tags=tags or {},
        )
        recipe.hyperparameters.update(dict(hyperparameters or {}))
        request = pb.SubmitTrainingRequest(
            recipe=recipe, data=pb.TrainingData(training_set=training_set), first_alias=first_alias, request_id=uuid.uuid4().hex
        )
        answer = await self._calls.unary(self._stub.SubmitTraining, request)
        found: pb.Job = answer.job
        return found

    async def get(self, job_id: str) -> pb.Job:
        """One job, by its id or by ``decision:<id>``."""
        answer = await self._calls.unary(self._stub.GetJob, pb.GetJobRequest(job_id=job_id))
        found: pb.Job = answer.job
        return found

    async def jobs(self) -> AsyncIterator[pb.Job]:
        """Every job, newest first."""
        stub = self._stub

        async def fetch(token: str) -> Any:
            return await self._calls.unary(stub.ListJobs, pb.ListJobsRequest(page=Page(token=token)))

        async for job in pages(fetch, lambda answer: answer.jobs):
            yield job

    async def cancel(self, job_id: str, reason: str = "") -> pb.Job:
        """Cancels a job that has not ended."""
        request = pb.CancelJobRequest(job_id=job_id, reason=reason, request_id=uuid.uuid4().hex)
        answer = await self._calls.unary(self._stub.CancelJob, request)
        found: pb.Job = answer.job
        return found

    async def watch(self, job_id: str, deadline_s: float = _WATCH_DEADLINE_S) -> AsyncIterator[pb.Job]:
        """The job at once and after every change, until it ends."""
        async for answer in self._calls.stream(self._stub.WatchJob, pb.WatchJobRequest(job_id=job_id), deadline_s):
            yield answer.job

    async def wait(
        self, job_id: str, *, on_change: Callable[[pb.Job], None] | None = None, deadline_s: float = _WATCH_DEADLINE_S
    ) -> pb.Job:
        """The job when it has ended, however it did."""
        last: pb.Job | None = None
        async for job in self.watch(job_id, deadline_s):
            last = job
            if on_change is not None:
                on_change(job)
        if last is None or last.state not in ENDED:
            raise FailedPrecondition(f"job {job_id}: the trainer stopped telling before it ended")
        return last

    async def algorithms(self) -> list[pb.Algorithm]:
        """The algorithms this platform can train."""
        answer = await self._calls.unary(self._stub.ListAlgorithms, pb.ListAlgorithmsRequest())
        return list(answer.algorithms)
