"""Who works on the queue?

A worker takes a job under a lease with a fencing token and keeps it by a heartbeat. What it does is written under that
token only: one that slept through its lease changes nothing. A job left behind by a killed trainer is taken again; one
that was about to register goes on with the very package it had stored.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from perennial.errors import Aborted, FailedPrecondition, PerennialError, Unavailable
from perennial.runtime import crash
from perennial.runtime.service import Runtime

from services.trainer.agent import registering
from services.trainer.agent.sources import Sources, recipe_of, tagged
from services.trainer.agent.work import training
from services.trainer.agent.work.spec import Result, Spec, TrainingSetFile
from services.trainer.algorithms import named
from services.trainer.config import TrainerConfig
from services.trainer.domain.job import Job
from services.trainer.domain.recipe import Recipe
from services.trainer.launchers import child
from services.trainer.store import LOOK_AGAIN_S, Jobs, Watch

_PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"}
_BEATS = 4


class Worker:
    """Takes one job after the other."""

    def __init__(self, runtime: Runtime, jobs: Jobs, watch: Watch, sources: Sources, *, number: int = 0) -> None:
        self._config: TrainerConfig = runtime.config
        self._clock = runtime.clock
        self._log = runtime.log
        self._jobs = jobs
        self._watch = watch
        self._sources = sources
        self._registrar = registering.Registrar(runtime)
        self._folder = Path(self._config.data_dir) / "trainer" / f"{self._config.schema_name}-{number}"

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            job = await self._jobs.claim(self._config.lease_s, self._config.deaths, self._clock.now())
            if job is None:
                wait = await self._jobs.idle_s()
                await self._watch.changed(LOOK_AGAIN_S if wait is None else min(max(wait, 0.05), LOOK_AGAIN_S))
            elif not job.ended:
                await self._worked(job)

    async def _worked(self, job: Job) -> None:
        """One job from its taking to its end; whatever happens to it is in its row."""
        self._log.info("job taken", job=job.id, model=job.model, attempt=job.attempts)
        try:
            async with self._kept(job) as held:
                await self._done(job, held)
        except Aborted as error:
            self._log.info("job lost", job=job.id, reason=error.message)
        except PerennialError as error:
            await self._put_down(job, error)
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _put_down(self, job: Job, error: PerennialError) -> None:
        """Try again later what needs something that is not there now; everything else has failed."""
        died = isinstance(error, child.ChildDied)
        try:
            if error.status in _PASSING or (died and job.deaths + 1 < self._config.deaths):
                await self._change(job, lambda j: j.requeued(error.message, died=died), delay_s=self._config.retry_s)
            else:
                await self._change(job, lambda j: j.failed(error.message, self._clock.now()))
        except Aborted:
            return  # cancelled, or another worker has it

    async def _change(self, job: Job, decide: registering.Decide, *, delay_s: float | None = None) -> Job:
        return await self._jobs.change(job.id, lambda j: decide(j.held_with(job.token)), delay_s=delay_s)

    async def _done(self, job: Job, held: "_Held") -> None:
        """Train unless its package is stored already, then register."""
        if job.registration is None:
            spec = await self._prepared(job)
            job = await self._change(job, lambda j: j.running(spec.recipe, spec.parent_version, self._clock.now()))
            result: Result = await child.run(training.train, spec, held.progressed)
            if result.declined:
                now = self._clock.now()
                await self._change(job, lambda j: j.declined(result.declined, result.metrics, result.data_digest, now))
                return
            crash.point("trainer.before_registering")
            registration = await self._registrar.stored(job, Path(result.package))
            job = await self._change(job, lambda j: j.registering(registration, result.metrics, result.data_digest))
        crash.point("trainer.registering")
        number = await self._registrar.registered(job)
        crash.point("trainer.registered")
        await self._change(job, lambda j: j.succeeded(number, self._clock.now()))
        await self._registrar.forgotten(job)

    async def _prepared(self, job: Job) -> Spec:
        """Fetch everything the child needs into an empty folder."""
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        await asyncio.to_thread(self._folder.mkdir, parents=True, mode=0o700)
        recipe, parent = await self._recipe(job)
        log = await self._sources.log(job.data.log, self._folder) if job.data.log else None
        first: TrainingSetFile | None = None
        digest = job.data.log.first_training_set if job.data.log else job.data.training_set
        begins = log.begins_us if log else None
        if digest and (log is None or begins is None or log.window_start_us < begins):
            first = await self._sources.training_set(digest, self._folder)
        return Spec(
            job_id=job.id, folder=str(self._folder), recipe=recipe, training_set=first, log=log, parent=parent,
            parent_version=job.parent, code_version=version("perennial-mlops"), threads=self._config.threads,
            folds=self._config.folds, retrain_folds=self._config.retrain_folds, margin=self._config.harm_margin,
        )  # fmt: skip

    async def _recipe(self, job: Job) -> tuple[Recipe, str]:
        """The job's own recipe, or its parent's; and the folder with the parent."""
        if not job.parent:
            if job.recipe is None:
                raise FailedPrecondition("the job has neither a recipe nor a parent")
            return job.recipe, ""
        folder = self._folder / "parent"
        package, found = await self._sources.parent(job, folder)
        recipe = tagged(recipe_of(package, job.model), found)
        named(recipe.algorithm)
        return recipe, str(folder)

    @asynccontextmanager
    async def _kept(self, job: Job) -> AsyncIterator["_Held"]:
        """Keep the lease for the body; cancel it and raise Aborted when the job is no longer this worker's."""
        held = _Held()
        body = asyncio.current_task()
        assert body is not None
        lost = False

        async def keep() -> None:
            nonlocal lost
            while True:
                try:
                    if not await self._jobs.beat(job, self._config.lease_s, held.share, held.step):
                        break
                except Unavailable:
                    pass  # the database may come back before the lease runs out; the token decides
                await held.beat_due(self._watch, self._config.lease_s / _BEATS)
            lost = True
            body.cancel()

        keeper = asyncio.create_task(keep())
        try:
            yield held
        except asyncio.CancelledError:
            if not lost:
                raise
            body.uncancel()
            raise Aborted("it was cancelled or taken by another worker") from None
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)


class _Held:
    """How far the job in hand is."""

    def __init__(self) -> None:
        self.share = 0.0
        self.step = "fetching data"
        self._moved = asyncio.Event()

    def progressed(self, share: float, step: str) -> None:
        """Said by the child."""
        self.share, self.step = share, step
        self._moved.set()

    async def beat_due(self, watch: Watch, within_s: float) -> None:
        """Return when there is news to write, when any job changed (perhaps this one was cancelled), or in time for a beat."""
        moved = asyncio.create_task(self._moved.wait())
        changed = asyncio.create_task(watch.changed(within_s))
        try:
            await asyncio.wait({moved, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (moved, changed):
                task.cancel()
        self._moved.clear()
        await asyncio.sleep(0.05)


