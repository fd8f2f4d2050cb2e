"""What do other services' events change here? Deployments as serving describes them, and where decisions have come to."""

from dataclasses import replace
from typing import Any

from perennial.runtime.events import Received
from perennial.runtime.postgres import Postgres, Transaction
from perennial.v1 import events_pb2 as pb
from perennial.v1 import serving_pb2

from services.monitor.agent.catalog import Catalog
from services.monitor.agent.references import References
from services.monitor.closing.closer import Closer
from services.monitor.closing.moment import rested
from services.monitor.domain import policy
from services.monitor.store import decisions as store
from services.monitor.store import deployments

_OVER = (
    serving_pb2.ROLLOUT_STATE_PROMOTED,
    serving_pb2.ROLLOUT_STATE_ROLLED_BACK,
    serving_pb2.ROLLOUT_STATE_DECLINED,
    serving_pb2.ROLLOUT_STATE_ABORTED,
)
_ENDED = {"failed": policy.FAILED, "declined": policy.DECLINED, "cancelled": policy.FAILED}


class Handlers:
    """The handlers of the control topics. Each is harmless when repeated."""

    def __init__(self, postgres: Postgres, catalog: Catalog, references: References, closer: Closer) -> None:
        self._postgres, self._catalog, self._references, self._closer = postgres, catalog, references, closer

    async def on_deployment_state(self, event: Received) -> None:
        """Serving described a deployment; hours that passed before a rollout was known are compared now."""
        message: Any = event.message
        if isinstance(message, pb.DeploymentStateChanged):
            await self._catalog.put(message.deployment)
            self._closer.wake([message.deployment.spec.name])

    async def on_training(self, event: Received) -> None:
        """A job moved: its decision moves with it; one that brought nothing gives the way free."""
        message = event.message
        if not isinstance(message, pb.JobStateChanged) or not message.decision_id:
            return
        async with self._postgres.transaction() as tx:
            if message.state == "succeeded":
                await self._succeeded(tx, message.decision_id, message.version)
            elif message.state in _ENDED and await store.move(tx, message.decision_id, _ENDED[message.state]):
                await self._ended(tx, message.decision_id)

    async def on_models(self, event: Received) -> None:
        """A version came of a decision."""
        message = event.message
        if isinstance(message, pb.ModelVersionRegistered) and message.decision_id:
            async with self._postgres.transaction() as tx:
                await self._succeeded(tx, message.decision_id, message.version)

    async def on_deployments(self, event: Received) -> None:
        """A rollout ended: the residual chart begins anew, and the next retraining may be asked for."""
        message = event.message
        over = isinstance(message, pb.Promoted | pb.RolledBack | pb.RolloutDeclined)
        if isinstance(message, pb.RolloutStepped):
            over = message.rollout.state in _OVER
        if not over:
            return
        rollout = message.rollout  # type: ignore[attr-defined] # every message of this topic has one
        async with self._postgres.transaction() as tx:
            if await tx.seen("monitor-rollouts", f"{rollout.rollout_id}/{rollout.state}"):
                return
            watch = await deployments.lock(tx, rollout.deployment)
            if watch is None:
                return
            version = rollout.challenger if isinstance(message, pb.Promoted) else watch.deployment.champion
            await self._references.load([(rollout.deployment, version)], {rollout.deployment: watch.deployment})
            state = policy.State.from_json(watch.policy)
            if isinstance(message, pb.Promoted):
                await _incidents_over(tx, rollout.deployment, version)
            await rested(tx, watch, state, self._references.profile(rollout.deployment, version))

    async def _succeeded(self, tx: Transaction, decision_id: str, version: str) -> None:
        """The job ended well; without an automatic rollout that is the end of it."""
        moved = await store.move(tx, decision_id, policy.SUCCEEDED, version)
        decision = await store.get(tx, decision_id)
        if not moved or decision is None:
            return
        watch = await deployments.lock(tx, decision["deployment"])
        if watch is not None and not watch.deployment.auto_rollout:
            state = policy.State.from_json(watch.policy)
            if state.open == decision_id:
                await deployments.set_policy(tx, decision["deployment"], replace(state, open="").to_json())

    async def _ended(self, tx: Transaction, decision_id: str) -> None:
        decision = await store.get(tx, decision_id)
        watch = await deployments.lock(tx, decision["deployment"]) if decision is not None else None
        if watch is not None:
            state = policy.State.from_json(watch.policy)
            if state.open == decision_id:
                await rested(tx, watch, state, self._references.profile(watch.deployment.name, watch.deployment.champion))


async def _incidents_over(tx: Transaction, deployment: str, version: str) -> None:
    """A new champion was trained on what the incidents of the old one showed."""
    for incident in await store.open_incidents(tx, deployment):
        if incident["state"] == "confirmed" and incident["version"] != version:
            await store.set_incident(
                tx, incident["incident_id"], "closed", incident["seen_us"], incident["factor"], incident["detail"]
            )
