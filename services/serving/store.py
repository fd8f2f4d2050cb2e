"""Where do deployments and rollouts live?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from perennial.errors import AlreadyExists, NotFound
from perennial.runtime.events import Event
from perennial.runtime.postgres import Postgres, Transaction

from services.serving.domain import plain
from services.serving.domain.deployment import Change, Deployment
from services.serving.domain.rollout import Build, Rollout, RolloutState

_OPEN = "state in ('pending', 'shadow', 'live')"
_READ = f"select *, (select json_agg(body) from rollouts r where r.deployment = d.name and {_OPEN}) as open from deployments d"  # noqa: S608 no input
_WRITE = """
update deployments set spec = $2, champion = $3, state_version = $4, retired = $5, watermark_us = greatest(watermark_us, $6)
where name = $1
"""
_CREATE = """
insert into deployments (name, model, spec, champion, follows_alias, state_version, created_us)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
"""
_ROLLOUT = """
insert into rollouts (rollout_id, deployment, challenger, attempt, state, body) values ($1, $2, $3, $4, $5, $6)
on conflict (rollout_id) do update set state = excluded.state, body = excluded.body
"""
_REGISTER = """
insert into registrations (deployment, version, event_id, correlation_id, decision_id, approval_required)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing
"""
_COMPARED = """
insert into comparisons as c values ($1, $2, $3)
on conflict (rollout_id) do update set as_of_us = excluded.as_of_us, message = excluded.message
where c.as_of_us < excluded.as_of_us
"""


@dataclass(frozen=True, slots=True)
class Registration:
    """A version that was registered for a deployment."""

    deployment: str
    version: str
    event_id: str
    correlation_id: str
    decision_id: str
    approval_required: bool


Publish = Callable[[Deployment, Sequence[Rollout]], tuple[Deployment, list[Event]]]
"""The events of a change, and the deployment with what they leave behind in it."""


class Store:
    """Deployments, their rollouts, and what was heard of them."""

    def __init__(self, postgres: Postgres, publish: Publish) -> None:
        self._postgres = postgres
        self._publish = publish

    async def create(self, deployment: Deployment) -> Deployment:
        """Keep a new deployment. AlreadyExists when the name is taken."""
        async with self._postgres.transaction() as t:
            done = await t.execute(
                _CREATE, deployment.name, deployment.spec.model, asdict(deployment.spec), asdict(deployment.champion),
                deployment.follows_alias, deployment.state_version, deployment.created_us,
            )  # fmt: skip
            if done.endswith(" 0"):
                raise AlreadyExists(f"deployment {deployment.name} exists")
            _, events = self._publish(deployment, ())
            for event in events:
                await t.publish(event)
            await t.audit("deployment.create", deployment.name, model=deployment.spec.model, version=deployment.champion.version)
        return deployment

    async def update(self, name: str, change: Callable[[Deployment], Change], why: str, *, guard: Any = None) -> Deployment:
        """Change a deployment under its lock; nothing is written when nothing changed. NotFound; ``guard`` is a lease."""
        async with self._postgres.transaction() as t:
            if guard is not None:
                await t.check(guard)
            before = await self._locked(t, name)
            changed = change(before)
            if changed.deployment == before and not changed.moved:
                return before
            after = replace(changed.deployment, state_version=before.state_version + 1)
            after, events = self._publish(after, changed.moved)
            await self._write(t, after, [*changed.moved, *(r for r in (after.rollout, after.pending) if r is not None)])
            for event in events:
                await t.publish(event)
            await t.audit(why, name, moved=[f"{r.challenger} {r.state} {r.weight}" for r in changed.moved])
        return after

    async def _locked(self, t: Transaction, name: str) -> Deployment:
        await t.fetchrow("select 1 from deployments where name = $1 for update", name)
        return _deployment(_found(await t.fetchrow(f"{_READ} where name = $1", name), name))

    async def _write(self, t: Transaction, after: Deployment, rollouts: Sequence[Rollout]) -> None:
        await t.execute(
            _WRITE, after.name, asdict(after.spec), asdict(after.champion), after.state_version, after.retired, after.watermark_us
        )
        # Those that are over first: only one may be at work, and only one may wait.
        for rollout in sorted({r.rollout_id: r for r in rollouts}.values(), key=lambda r: not r.state.ended):
            await t.execute(
                _ROLLOUT, rollout.rollout_id, rollout.deployment, rollout.challenger, rollout.attempt, str(rollout.state),
                asdict(rollout),
            )  # fmt: skip

    async def get(self, name: str) -> Deployment:
        """One deployment. NotFound."""
        return _deployment(_found(await self._postgres.fetchrow(f"{_READ} where name = $1", name), name))

    async def every(self, *, model: str = "", after: str = "", most: int = 10_000) -> list[Deployment]:
        """Deployments by name, those of a model if one is given."""
        query = f"{_READ} where name > $1 and ($2 = '' or model = $2) order by name limit $3"
        return [_deployment(row) for row in await self._postgres.fetch(query, after, model, most)]

    async def versions(self) -> dict[str, tuple[int, int | None]]:
        """State version and watermark of every deployment."""
        rows = await self._postgres.fetch("select name, state_version, watermark_us from deployments")
        return {row["name"]: (row["state_version"], row["watermark_us"]) for row in rows}

    async def advance(self, name: str, watermark_us: int) -> int:
        """Move the watermark forward; the watermark that stands. NotFound. No event: streams carry it."""
        query = "update deployments set watermark_us = greatest(watermark_us, $2) where name = $1 returning watermark_us"
        found = await self._postgres.fetchval(query, name, watermark_us)
        if found is None:
            raise NotFound(f"no deployment {name!r}")
        return int(found)

    async def rollout(self, rollout_id: str) -> Rollout:
        """One rollout. NotFound."""
        body = await self._postgres.fetchval("select body from rollouts where rollout_id = $1", rollout_id)
        if body is None:
            raise NotFound(f"no rollout {rollout_id!r}")
        return plain.rollout(body)

    async def rollouts(self, deployment: str, *, before: int, most: int) -> list[tuple[int, Rollout]]:
        """A deployment's rollouts, newest first, with their numbers. NotFound."""
        await self.get(deployment)
        query = "select number, body from rollouts where deployment = $1 and number < $2 order by number desc limit $3"
        rows = await self._postgres.fetch(query, deployment, before, most)
        return [(row["number"], plain.rollout(row["body"])) for row in rows]

    async def attempts(self, deployment: str, version: str) -> int:
        """How many rollouts of a version there were."""
        query = "select coalesce(max(attempt), 0) from rollouts where deployment = $1 and challenger = $2"
        return int(await self._postgres.fetchval(query, deployment, version))

    async def register(self, registration: Registration) -> None:
        """Remember a version that was registered for a deployment."""
        r = registration
        await self._postgres.execute(
            _REGISTER, r.deployment, r.version, r.event_id, r.correlation_id, r.decision_id, r.approval_required
        )

    async def registrations(self, deployment: str) -> list[Registration]:
        """Those nothing was done about yet, oldest first."""
        query = "select * from registrations where deployment = $1 and not handled order by number"
        rows = await self._postgres.fetch(query, deployment)
        names = Registration.__dataclass_fields__
        return [Registration(**{name: row[name] for name in names}) for row in rows]

    async def heard(self, deployment: str, versions: Sequence[str]) -> set[str]:
        """Which of these versions were registered, as far as was heard."""
        query = "select version from registrations where deployment = $1 and version = any($2::text[])"
        return {row["version"] for row in await self._postgres.fetch(query, deployment, list(versions))}

    async def handled(self, deployment: str, version: str) -> None:
        """Nothing is left to do about a registration."""
        await self._postgres.execute(
            "update registrations set handled = true where deployment = $1 and version = $2", deployment, version
        )

    async def compared(self, rollout_id: str, as_of_us: int, message: bytes) -> None:
        """Keep the newest comparison of a rollout."""
        await self._postgres.execute(_COMPARED, rollout_id, as_of_us, message)

    async def comparison(self, rollout_id: str) -> tuple[int, bytes] | None:
        """The newest comparison and its time."""
        row = await self._postgres.fetchrow("select as_of_us, message from comparisons where rollout_id = $1", rollout_id)
        return None if row is None else (row["as_of_us"], row["message"])


def _found(row: Any, name: str) -> Any:
    if row is None:
        raise NotFound(f"no deployment {name!r}")
    return row


def _deployment(row: Any) -> Deployment:
    rollouts = [plain.rollout(body) for body in row["open"] or ()]
    return Deployment(
        spec=plain.spec(row["spec"]),
        champion=Build(**row["champion"]),
        created_us=row["created_us"],
        follows_alias=row["follows_alias"],
        rollout=next((r for r in rollouts if r.state.at_work), None),
        pending=next((r for r in rollouts if r.state is RolloutState.PENDING), None),
        watermark_us=row["watermark_us"],
        state_version=row["state_version"],
        retired=row["retired"],
    )
