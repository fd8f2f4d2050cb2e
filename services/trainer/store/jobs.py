"""The jobs in PostgreSQL: a queue whose rows are leased, and their history.

Every change of a job is one transaction: the row is locked, the fencing token compared, the state decided, the row
written, its event put in the outbox and watchers told (``pg_notify`` reaches them at the commit, in every process).
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from perennial.errors import InvalidArgument, NotFound
from perennial.runtime.postgres import Postgres, Transaction

from services.trainer import wire
from services.trainer.domain.job import ENDED, Author, Job, JobState
from services.trainer.domain.recipe import Data, Recipe

DECISION = "decision:"
_COLUMNS = "n, id, state, model, decision_id, body, registration, progress, step, attempts, token, changes"
_CLAIM = f"""
update jobs set token = token + 1, leased_until = clock_timestamp() + make_interval(secs => $1)
where id = (
    select id from jobs
    where (state = 'queued' and coalesce(not_before, '-infinity') <= clock_timestamp())
       or (state in ('leased', 'running', 'registering') and leased_until < clock_timestamp())
    order by n for update skip locked limit 1
)
returning {_COLUMNS}
"""  # noqa: S608 a constant list of columns
_BEAT = """
update jobs set leased_until = clock_timestamp() + make_interval(secs => $3), progress = $4, step = $5
where id = $1 and token = $2 and state in ('leased', 'running', 'registering')
"""
_WAIT = "select extract(epoch from min(case when state = 'queued' then not_before else leased_until end) - clock_timestamp())"
_BODY_TIMES = ("event_time", "created_at", "started_at", "ended_at")
_BODY = (
    "deployment", "parent", "first_alias", "version", "reason", "data_digest", "correlation_id", "causation_id",
)  # fmt: skip


class Jobs:
    """The table of jobs."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    @property
    def channel(self) -> str:
        """Where every change is announced, with the job's id and its decision's."""
        return f"jobs_{self._postgres.schema}"

    async def add(self, job: Job) -> Job:
        """Queue a job; one decision has one job, so a second one gives the first."""
        async with self._postgres.transaction() as transaction:
            inserted = await transaction.fetchval(
                "insert into jobs (id, state, model, decision_id, body) values ($1, $2, $3, nullif($4, ''), $5) "
                "on conflict do nothing returning n",
                job.id, str(job.state), job.model, job.decision_id, _body_of(job),
            )  # fmt: skip
            if inserted is None:
                return await self._found(transaction, DECISION + job.decision_id if job.decision_id else job.id)
            return await self._announced(transaction, job)

    async def get(self, key: str) -> Job:
        """A job by its id or ``decision:<id>``; NotFound."""
        return await self._found(self._postgres, key)

    async def page(self, *, model: str, size: int, before: int | None) -> tuple[list[Job], int | None]:
        """Jobs, newest first, and where the next page starts."""
        rows = await self._postgres.fetch(
            f"select {_COLUMNS} from jobs where ($1 = '' or model = $1) and ($2::bigint is null or n < $2) "  # noqa: S608
            "order by n desc limit $3",
            model, before, size + 1,
        )  # fmt: skip
        more = rows[size - 1]["n"] if len(rows) > size else None
        return [_job(row) for row in rows[:size]], more

    async def claim(self, lease_s: float, deaths: int, now: datetime) -> Job | None:
        """Take the oldest job that waits or whose worker is silent; one that too many workers died over fails instead."""
        async with self._postgres.transaction() as transaction:
            row = await transaction.fetchrow(_CLAIM, lease_s)
            if row is None:
                return None
            job = _job(row)
            return await self._written(transaction, job, job.taken(now, deaths=deaths))

    async def change(self, key: str, decide: Callable[[Job], Job], *, delay_s: float | None = None) -> Job:
        """Lock the job, decide its next state, write it. ``delay_s``: not taken before."""
        async with self._postgres.transaction() as transaction:
            job = await self._found(transaction, key, lock=True)
            changed = await self._written(transaction, job, decide(job))
            if delay_s is not None:
                query = "update jobs set not_before = clock_timestamp() + make_interval(secs => $2) where id = $1"
                await transaction.execute(query, job.id, delay_s)
            return changed

    async def beat(self, job: Job, lease_s: float, progress: float, step: str) -> bool:
        """Keep the lease and say how far it is; False when the job is no longer this worker's."""
        async with self._postgres.transaction() as transaction:
            done: str = await transaction.execute(_BEAT, job.id, job.token, lease_s, progress, step)
            await self._tell(transaction, job)
            return done.endswith(" 1")

    async def idle_s(self) -> float | None:
        """Seconds until a waiting or silent job could be taken; None when there is none."""
        query = f"{_WAIT} from jobs where state in ('queued', 'leased', 'running', 'registering')"
        wait = await self._postgres.fetchval(query)
        return None if wait is None else float(wait)

    async def _found(self, source: Any, key: str, *, lock: bool = False) -> Job:
        column, value = ("decision_id", key.removeprefix(DECISION)) if key.startswith(DECISION) else ("id", key)
        query = f"select {_COLUMNS} from jobs where {column} = $1{' for update' if lock else ''}"  # noqa: S608
        row = await source.fetchrow(query, value)
        if row is None:
            raise NotFound(f"no training job {key}")
        return _job(row)

    async def _written(self, transaction: Transaction, before: Job, job: Job) -> Job:
        await transaction.execute(
            "update jobs set state = $2, model = $3, body = $4, registration = $5, progress = $6, step = $7, attempts = $8, "
            "leased_until = case when $9 then leased_until end where id = $1",
            job.id, str(job.state), job.model, _body_of(job), job.registration, job.progress, job.step, job.attempts,
            job.state not in ENDED and job.state is not JobState.QUEUED,
        )  # fmt: skip
        if before.state is job.state:
            await self._tell(transaction, job)
            return job
        return await self._announced(transaction, job)

    async def _announced(self, transaction: Transaction, job: Job) -> Job:
        """Publish the job's new state, caused by its state before."""
        job = replace(job, changes=job.changes + 1)
        event = wire.state_changed(job)
        chained = replace(job, causation_id=event.id, correlation_id=job.correlation_id or event.id)
        await transaction.execute("update jobs set body = $2, changes = $3 where id = $1", job.id, _body_of(chained), job.changes)
        await transaction.publish(event)
        await transaction.audit(f"job.{job.state}", job.id, model=job.model, decision=job.decision_id, reason=job.reason)
        await self._tell(transaction, job)
        return chained

    async def _tell(self, transaction: Transaction, job: Job) -> None:
        await transaction.execute("select pg_notify($1, $2)", self.channel, f"{job.id} {DECISION}{job.decision_id}")


def page_token(text: str) -> int | None:
    """Where a page starts; InvalidArgument when the token is not one of ours."""
    if not text:
        return None
    if not text.isdigit():
        raise InvalidArgument(f"page token {text[:40]!r} is not one that a list gave")
    return int(text)


def _body_of(job: Job) -> dict[str, Any]:
    times = {name: getattr(job, name) for name in _BODY_TIMES}
    return {
        **{name: getattr(job, name) for name in _BODY},
        **{name: time.isoformat() if time else None for name, time in times.items()},
        "recipe": job.recipe.to_json() if job.recipe else None,
        "data": job.data.to_json(),
        "metrics": dict(job.metrics),
        "deaths": job.deaths,
        "author": {"name": job.author.name, "kind": job.author.kind, "roles": list(job.author.roles)},
    }


def _job(row: Any) -> Job:
    body = row["body"]
    times: dict[str, Any] = {name: datetime.fromisoformat(body[name]) if body[name] else None for name in _BODY_TIMES}
    author = body["author"]
    return Job(
        id=row["id"], state=JobState(row["state"]), model=row["model"], decision_id=row["decision_id"] or "",
        recipe=Recipe.from_json(body["recipe"]) if body["recipe"] else None, data=Data.from_json(body["data"]),
        author=Author(author["name"], author["kind"], tuple(author["roles"])), metrics=body["metrics"], deaths=body["deaths"],
        registration=row["registration"], progress=row["progress"], step=row["step"], attempts=row["attempts"],
        token=row["token"], changes=row["changes"], **{name: body[name] for name in _BODY}, **times,
    )  # fmt: skip
