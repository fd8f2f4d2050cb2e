"""Training jobs over gRPC."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from perennial.errors import InvalidArgument
from perennial.runtime.identity import caller
from perennial.runtime.service import Runtime
from perennial.v1 import trainer_pb2 as pb

from services.trainer import wire
from services.trainer.agent.sources import Sources
from services.trainer.algorithms import ALGORITHMS, named
from services.trainer.domain.job import Author, Job
from services.trainer.domain.recipe import Data, Recipe
from services.trainer.store import Jobs, Watch, page_token

_PAGE = 50
_LARGEST_PAGE = 1000


class TrainerService:
    """Jobs, and the algorithms they may use."""

    def __init__(self, runtime: Runtime, jobs: Jobs, watch: Watch, sources: Sources) -> None:
        self._clock = runtime.clock
        self._jobs = jobs
        self._watch = watch
        self._sources = sources

    async def SubmitTraining(self, request: pb.SubmitTrainingRequest, context: Any) -> pb.SubmitTrainingResponse:
        """See trainer.proto."""
        recipe, data = await self._checked(wire.recipe_from(request.recipe), wire.data_from(request.data))
        who = caller()
        job = Job(
            id=uuid.uuid4().hex, data=data, author=Author(who.name, who.kind, tuple(sorted(who.roles))), recipe=recipe,
            model=recipe.model, first_alias=request.first_alias, created_at=self._clock.now(),
            deployment=data.log.deployment if data.log else "",
        )  # fmt: skip
        return pb.SubmitTrainingResponse(job=wire.job_to(await self._jobs.add(job)))

    async def _checked(self, recipe: Recipe, data: Data) -> tuple[Recipe, Data]:
        """Everything that can be checked before a worker takes the job."""
        recipe, data = recipe.checked(), data.checked()
        algorithm = named(recipe.algorithm)
        recipe = replace(recipe, hyperparameters=algorithm.checked(recipe.hyperparameters))
        inputs, labels = await self._sources.columns(data)
        return recipe.fitted_to(inputs, labels), data

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        """See trainer.proto."""
        return pb.GetJobResponse(job=wire.job_to(await self._jobs.get(request.job_id)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """See trainer.proto."""
        size = request.page.size or _PAGE
        if size > _LARGEST_PAGE:
            raise InvalidArgument(f"a page of {size} is too large; at most {_LARGEST_PAGE}")
        jobs, more = await self._jobs.page(model=request.model, size=size, before=page_token(request.page.token))
        return pb.ListJobsResponse(jobs=[wire.job_to(job) for job in jobs], next_token=str(more or ""))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        """See trainer.proto."""
        job = await self._jobs.change(request.job_id, lambda j: j.cancelled(request.reason, self._clock.now()))
        return pb.CancelJobResponse(job=wire.job_to(job))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """See trainer.proto."""
        async for job in self._watch.follow(request.job_id):
            yield pb.WatchJobResponse(job=wire.job_to(job))

    async def ListAlgorithms(self, request: pb.ListAlgorithmsRequest, context: Any) -> pb.ListAlgorithmsResponse:
        """See trainer.proto."""
        return pb.ListAlgorithmsResponse(algorithms=[wire.algorithm_to(a) for a in ALGORITHMS.values()])
