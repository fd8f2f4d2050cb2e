"""How does a version move through a rollout?

Every step is one transaction under the deployment's lock, fenced by its lease, so a kill at any point leaves a rollout that
the next process goes on with. In event time steps happen only in ``settle``; in arrival time when they are due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256

from perennial.clock import Clock, to_us
from perennial.errors import AlreadyExists, DeadlineExceeded, FailedPrecondition, PerennialError
from perennial.runtime import crash, telemetry
from perennial.runtime.leases import Lease, Leases
from perennial.v1.events_pb2 import VariantsCompared

from services.serving import wire
from services.serving.domain import deployment as rules
from services.serving.domain.deployment import Change, Deployment
from services.serving.domain.rollout import Rollout, RolloutState
from services.serving.domain.spec import HOUR_US, TimeMode
from services.serving.engine.fleet import Fleet
from services.serving.models import Models
from services.serving.store import Registration, Store

TICK_S = 1.0
RECONCILE_S = 30.0
_LEASE_S = 10.0
_LOG = telemetry.log(__name__)


class Controller:
    """Moves the rollouts of all deployments."""

    def __init__(self, store: Store, fleet: Fleet, models: Models, leases: Leases, clock: Clock) -> None:
        self._store = store
        self._fleet = fleet
        self._models = models
        self._leases = leases
        self._clock = clock
        self._heard = asyncio.Condition()

    # What is heard.

    async def hear(self, registration: Registration) -> None:
        """A version was registered for a deployment: it waits for the settle, or is opened at once."""
        await self._store.register(registration)
        deployment = await self._store.get(registration.deployment)
        if deployment.retired or not deployment.spec.rollout.auto:
            await self._store.handled(registration.deployment, registration.version)
        elif deployment.spec.time is TimeMode.ARRIVAL:
            await self._open_waiting(deployment, self.now_us(deployment), None)
        await self._notify()

    async def compare(self, message: VariantsCompared) -> None:
        """The monitor knows more of a challenger."""
        comparison = wire.comparison_from(message)
        await self._store.compared(comparison.rollout_id, comparison.as_of_us, message.SerializeToString())
        await self._notify()

    async def approve(self, model: str, version: str, *, yes: bool) -> None:
        """A person decided about a version."""
        for deployment in await self._store.every(model=model):
            change = partial(rules.approved, version=version, now_us=self.now_us(deployment), yes=yes)
            await self._change(deployment.name, change, "rollout.approval")

    async def converge(self, model: str) -> None:
        """Follow the alias champion, whoever moved it; a promotion of ours on its way is left to finish."""
        alias = await self._models.champion(model)
        for deployment in await self._store.every(model=model):
            rollout = deployment.rollout
            if not alias or alias == deployment.champion.version or not deployment.follows_alias or deployment.retired:
                continue
            if rollout is not None and rollout.challenger == alias and rollout.weight >= deployment.spec.rollout.steps[-1]:
                continue
            build = (await self._models.version(model, alias)).build
            change = partial(rules.converged, build=build, now_us=self.now_us(deployment))
            await self._change(deployment.name, change, "deployment.converge")

    async def take_out(self, name: str, rollout_id: str, reason: str) -> None:
        """A guardrail decided against a challenger. NotFound."""
        now_us = self.now_us(await self._store.get(name))
        await self._change(name, partial(rules.cut, rollout_id=rollout_id, now_us=now_us, reason=reason), "rollout.cut")

    # What is done.

    async def settle(self, name: str, t_us: int, versions: Sequence[str], *, deadline_s: float) -> Deployment:
        """Event time: act on everything up to ``t_us`` that registry and monitor have said. DeadlineExceeded."""
        deployment = await self._store.get(name)
        if deployment.spec.time is not TimeMode.EVENT:
            raise FailedPrecondition(f"deployment {name} follows arrival: its rollouts step by themselves")
        try:
            async with asyncio.timeout(deadline_s):
                await self._until(lambda: self._all_heard(name, versions))
                if deployment.rollout is None and not await self._store.registrations(name):
                    await self._fleet.serve(deployment)
                    return deployment
                async with self._leases.held(_lease(name), _LEASE_S) as lease:
                    return await self._settled(name, t_us, lease)
        except TimeoutError:
            missing = sorted(set(versions) - await self._store.heard(name, versions))
            what = f"the registration of {', '.join(missing)}" if missing else "what the monitor knows of the challenger"
            raise DeadlineExceeded(f"{what} was not heard within {deadline_s:.0f} s") from None

    async def _settled(self, name: str, t_us: int, lease: Lease) -> Deployment:
        deployment = await self._open_waiting(await self._store.get(name), t_us, lease)
        rollout = deployment.rollout
        if rollout is not None and rollout.started_us < t_us:
            hour = t_us // HOUR_US * HOUR_US
            if rollout.state is RolloutState.SHADOW and hour > rollout.started_us:
                await self._until(lambda: self._compared(rollout.rollout_id, hour))
            deployment = await self._step(deployment, t_us, lease)
        await self._fleet.serve(deployment)
        return deployment

    async def _step(self, deployment: Deployment, now_us: int, lease: Lease) -> Deployment:
        """At most one step of the open rollout."""
        rollout = deployment.rollout
        if rollout is None:
            return deployment
        if rollout.state is RolloutState.SHADOW:
            found = await self._store.comparison(rollout.rollout_id)
            if found is None:
                return deployment
            comparison = wire.comparison_from(VariantsCompared.FromString(found[1]))
            return await self._change(deployment.name, lambda d: rules.judged(d, comparison, now_us), "rollout.judge", lease)
        if rules.ready(deployment, now_us):
            return await self._promote(deployment, rollout, now_us, lease)
        calls = self._fleet.counters.of(deployment.name, rollout.challenger, rules.CHALLENGER).rows
        return await self._change(deployment.name, lambda d: rules.stepped(d, now_us, calls), "rollout.step", lease)

    async def _promote(self, deployment: Deployment, rollout: Rollout, now_us: int, lease: Lease) -> Deployment:
        """The alias first, by compare-and-set, then the deployment: a half-done one is done again."""
        crash.point("serving.before_alias")
        alias = rollout.challenger
        if deployment.follows_alias:
            alias = await self._models.promote(
                rollout.model, rollout.challenger, expected=deployment.champion.version, request_id=rollout.rollout_id,
                chain=(rollout.correlation_id, rollout.causation_id), now_us=now_us,
            )  # fmt: skip
        crash.point("serving.after_alias")
        name, rollout_id = deployment.name, rollout.rollout_id
        if alias == rollout.challenger:
            return await self._change(name, lambda d: rules.promoted(d, rollout_id, now_us), "rollout.promote", lease)
        reason = f"the alias champion names {alias or 'nothing'}, so {rollout.challenger} cannot follow {rollout.champion}"
        await self._change(name, lambda d: rules.aborted(d, rollout_id, now_us, reason), "rollout.abort", lease)
        await self.converge(rollout.model)
        return await self._store.get(name)

    async def start(self, name: str, version: str, *, now_us: int | None = None) -> Rollout:
        """Open a rollout by hand. FailedPrecondition when one is open or the signature is another's."""
        deployment = (await self._store.get(name)).working()
        if deployment.rollout is not None or deployment.pending is not None:
            raise FailedPrecondition(f"deployment {name} has an open rollout; abort it first")
        registered = await self._models.version(deployment.spec.model, version)
        if registered.build.signature != deployment.champion.signature:
            raise FailedPrecondition(f"version {version} has another signature than the champion {deployment.champion.version}")
        now_us = self.now_us(deployment) if now_us is None else now_us
        attempt = await self._store.attempts(name, registered.build.version) + 1
        rollout = self._rollout(deployment, registered.build.version, attempt, now_us)
        rollout = replace(rollout, build=registered.build, approved=registered.approved)
        changed = await self._change(name, lambda d: rules.registered(d, rollout, now_us), "rollout.start")
        found = changed.rollout or changed.pending
        assert found is not None
        return found

    async def abort(self, rollout_id: str, reason: str) -> Rollout:
        """End an open rollout. NotFound; FailedPrecondition when it is not open."""
        rollout = await self._store.rollout(rollout_id)
        now_us = self.now_us(await self._store.get(rollout.deployment))
        await self._change(rollout.deployment, lambda d: rules.aborted(d, rollout_id, now_us, reason), "rollout.abort")
        return await self._store.rollout(rollout_id)

    async def _open_waiting(self, deployment: Deployment, now_us: int, lease: Lease | None) -> Deployment:
        """Open what was registered and not handled yet, in the order it came."""
        name = deployment.name
        for registration in await self._store.registrations(name):
            deployment = await self._open(deployment, registration, now_us, lease)
            await self._store.handled(name, registration.version)
        return deployment

    async def _open(self, deployment: Deployment, heard: Registration, now_us: int, lease: Lease | None) -> Deployment:
        if await self._store.attempts(deployment.name, heard.version) or heard.version == deployment.champion.version:
            return deployment
        registered = await self._models.version(deployment.spec.model, heard.version)
        rollout = replace(
            self._rollout(deployment, heard.version, 1, now_us), build=registered.build,
            approved=registered.approved or not heard.approval_required, correlation_id=heard.correlation_id,
            causation_id=heard.event_id, decision_id=heard.decision_id,
        )  # fmt: skip

        def opened(d: Deployment) -> Change:
            if registered.build.signature != d.champion.signature:
                reason = f"version {heard.version} has another signature than the champion {d.champion.version}"
                return Change(d, (rollout.ended(RolloutState.DECLINED, now_us, reason),))
            try:
                return rules.registered(d, rollout, now_us)
            except AlreadyExists:
                return Change(d)

        return await self._change(deployment.name, opened, "rollout.open", lease)

    def _rollout(self, deployment: Deployment, version: str, attempt: int, now_us: int) -> Rollout:
        name = deployment.name
        rollout_id = sha256(f"{name}\n{version}\n{attempt}\n{deployment.created_us}".encode()).hexdigest()[:32]
        return Rollout(
            rollout_id, name, deployment.spec.model, deployment.champion.version, deployment.champion, RolloutState.PENDING,
            now_us, now_us, attempt, reason="waits",
        )  # fmt: skip

    async def _change(
        self, name: str, change: Callable[[Deployment], Change], why: str, lease: Lease | None = None
    ) -> Deployment:
        """Change a deployment, and answer by it here at once."""
        after = await self._store.update(name, change, why, guard=lease)
        crash.point(f"serving.after_{why}")
        await self._fleet.serve(after)
        return after

    def now_us(self, deployment: Deployment) -> int:
        """Deployment time: the clock, or how far a replay has come."""
        if deployment.spec.time is TimeMode.EVENT and deployment.watermark_us is not None:
            return deployment.watermark_us
        return to_us(self._clock.now())

    # What goes on by itself.

    async def tick(self) -> None:
        """Arrival time: step what is due, for ever; and finish what another process began."""
        while True:
            for deployment in self._fleet.deployments():
                rollout = deployment.rollout
                if deployment.spec.time is TimeMode.ARRIVAL and rollout is not None:
                    try:
                        await self._tick(deployment, rollout)
                    except PerennialError as error:
                        _LOG.warning("a rollout cannot step", deployment=deployment.name, error=str(error))
            await asyncio.sleep(TICK_S)

    async def _tick(self, deployment: Deployment, rollout: Rollout) -> None:
        now_us = self.now_us(deployment)
        if rollout.state is RolloutState.LIVE and not rules.due(deployment, now_us):
            return
        if rollout.state is RolloutState.SHADOW and not await self._store.comparison(rollout.rollout_id):
            return
        async with self._leases.held(_lease(deployment.name), _LEASE_S) as lease:
            await self._step(await self._store.get(deployment.name), now_us, lease)

    async def reconcile(self) -> None:
        """Look at every alias now and then, in case an event of it was missed."""
        while True:
            for model in sorted({d.spec.model for d in await self._store.every() if not d.retired}):
                try:
                    await self.converge(model)
                except PerennialError as error:
                    _LOG.warning("an alias cannot be followed", model=model, error=str(error))
            await asyncio.sleep(RECONCILE_S)

    async def _all_heard(self, name: str, versions: Sequence[str]) -> bool:
        return not versions or set(versions) <= await self._store.heard(name, versions)

    async def _compared(self, rollout_id: str, as_of_us: int) -> bool:
        rollout = await self._store.rollout(rollout_id)
        found = await self._store.comparison(rollout_id)
        return rollout.state.ended or (found is not None and found[0] >= as_of_us)

    async def _until(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait until ``check`` holds; looked at whenever something was heard here, and every second for the rest."""
        while True:
            async with self._heard:
                if await check():
                    return
                try:
                    await asyncio.wait_for(self._heard.wait(), 1.0)
                except TimeoutError:
                    continue

    async def _notify(self) -> None:
        async with self._heard:
            self._heard.notify_all()


def _lease(name: str) -> str:
    return f"rollout:{name}"


