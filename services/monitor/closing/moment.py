"""What does a pass over a deployment work on? Its transaction, its watermarks, and the policy's state, written at the end."""

import uuid
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from perennial.runtime.events import Event
from perennial.runtime.postgres import Transaction
from perennial.stats.cusum import Chart
from perennial.stats.reference import Profile
from perennial.topics import MONITORING, RETRAINING
from perennial.v1 import events_pb2 as pb

from services.monitor import wire
from services.monitor.agent.references import References
from services.monitor.config import MonitorConfig
from services.monitor.domain import policy
from services.monitor.domain.deployments import Deployment
from services.monitor.domain.policy import Verdict, Wish
from services.monitor.store import decisions, deployments, streams
from services.monitor.store.deployments import Watch


class Moment:
    """One pass; ``prediction_us`` and ``outcome_us`` are the watermarks it moves to."""

    def __init__(
        self, tx: Transaction, watch: Watch, references: References, config: MonitorConfig, prediction_us: int | None,
        outcome_us: int | None, *, moved: bool = True,
    ) -> None:  # fmt: skip
        self.tx, self.watch, self.config = tx, watch, config
        self.prediction_us, self.outcome_us = prediction_us, outcome_us
        self.state = policy.State.from_json(watch.policy)
        self.blocks_closed_us = watch.blocks_closed_us
        self.panes_checked_us = watch.panes_checked_us
        self.compared = (watch.compared_rollout, watch.compared_us)
        self.cuts = 0
        self._references = references
        self._moved = moved

    @property
    def deployment(self) -> Deployment:
        """The deployment."""
        return self.watch.deployment

    @property
    def name(self) -> str:
        """Its name."""
        return self.watch.deployment.name

    @property
    def both_us(self) -> int | None:
        """The instant that both watermarks have passed."""
        return None if self.prediction_us is None or self.outcome_us is None else min(self.prediction_us, self.outcome_us)

    @property
    def profile(self) -> Profile | None:
        """The champion's reference."""
        return self.profile_of(self.deployment.champion)

    def profile_of(self, version: str) -> Profile | None:
        """A version's reference."""
        return self._references.profile(self.name, version)

    async def publish(
        self, message: Message, time_us: int, *, correlation_id: str = "", causation_id: str = "", event_id: str = ""
    ) -> Event:
        """Say something on ``perennial.monitoring``; ``event_id`` is the event's own, where it begins a chain that is named."""
        event = Event(
            MONITORING, self.name, message, subject=self.name, time=wire.time_of(time_us), correlation_id=correlation_id,
            causation_id=causation_id, aggregate=f"monitoring/{self.name}", id=event_id or uuid.uuid4().hex,
        )  # fmt: skip
        await self.tx.publish(event)
        return event

    async def save(self) -> None:
        """Write where the pass has come to."""
        await self.tx.execute(
            "update deployments set prediction_watermark_us = $2, outcome_watermark_us = $3, blocks_closed_us = $4,"
            " panes_checked_us = $5, compared_rollout = $6, compared_us = $7, policy = $8 where name = $1",
            self.name, self.prediction_us, self.outcome_us, self.blocks_closed_us, self.panes_checked_us, self.compared[0],
            self.compared[1], self.state.to_json(),
        )  # fmt: skip

    async def decide(self, now_us: int, wishes: list[Wish], *, chain: str = "", always: bool = True) -> Verdict:
        """Ask the policy, keep its answer, and cut the log where it asks. ``chain`` is the event that began it."""
        verdict = policy.judged(
            self.state, self.deployment.policy, now_us, wishes, rollout_open=self.deployment.rollout is not None
        )
        self.state = verdict.state
        if not verdict.requested and not always and not verdict.announce:
            return verdict
        decision_id = uuid.uuid4().hex
        wish = verdict.wish
        asked = verdict.requested or wish is None
        row: dict[str, Any] = {
            "decision_id": decision_id, "deployment": self.name, "time_us": now_us, "requested": verdict.requested,
            "trigger": wish.trigger if wish else "none",
            "reason": verdict.reason if asked or wish is None else f"{verdict.reason}: {wish.reason}",
            "figures": verdict.figures, "state": policy.PENDING if verdict.requested else "", "request": None,
            "correlation_id": chain, "causation_id": chain,
        }  # fmt: skip
        if verdict.requested and wish is not None:
            row["request"] = await self._cut(decision_id, now_us, wish)
            self.state = replace(self.state, open=decision_id)
            await self.tx.audit("retraining.requested", self.name, decision=decision_id, trigger=wish.trigger, reason=wish.reason)
        elif verdict.announce and wish is not None:
            await self._refused(decision_id, verdict, wish, now_us, row)
        await decisions.add(self.tx, row)
        return verdict

    async def _cut(self, decision_id: str, now_us: int, wish: Wish) -> dict[str, Any]:
        """Cut the log at what is folded now: the request is released once the cut is written."""
        start_us = now_us - self.deployment.policy.training_window_us
        await cut_log(
            self.tx,
            self.name,
            from_us=start_us,
            prediction_us=self.prediction_us,
            outcome_us=self.outcome_us,
            decision_id=decision_id,
        )
        self.cuts += 1
        return {
            "version": self.deployment.champion, "model": self.deployment.model, "window_start_us": start_us,
            "window_end_us": now_us,
            "change_us": wish.change_us, "units": [list(unit) for unit in wish.units],
            "first_training_set": self.deployment.training_set,
        }  # fmt: skip

    async def _refused(self, decision_id: str, verdict: Verdict, wish: Wish, now_us: int, row: dict[str, Any]) -> None:
        message = pb.RetrainingDeclined(
            decision_id=decision_id,
            deployment=self.name,
            model=self.deployment.model,
            trigger=wish.trigger,
            reason=verdict.reason,
        )
        await self.tx.publish(
            Event(RETRAINING, self.deployment.model, message, subject=self.name, time=wire.time_of(now_us),
                  correlation_id=row["correlation_id"], causation_id=row["causation_id"], aggregate=f"retraining/{self.name}")
        )  # fmt: skip


async def cut_log(
    tx: Transaction,
    deployment: str,
    *,
    from_us: int,
    prediction_us: int | None,
    outcome_us: int | None,
    decision_id: str = "",
    request_id: str = "",
) -> str:
    """Store a cut at the positions that are folded now; its id. The log's sink writes its manifest."""
    snapshot_id = uuid.uuid4().hex
    found = await streams.positions(tx, streams.FOLD, deployment)
    cut = {"streams": found["predictions"], "outcome_streams": found["outcomes"],
           "prediction_watermark_us": prediction_us, "outcome_watermark_us": outcome_us}  # fmt: skip
    await decisions.cut(
        tx, {"snapshot_id": snapshot_id, "deployment": deployment, "decision_id": decision_id, "from_us": from_us, "cut": cut,
             "request_id": request_id}
    )  # fmt: skip
    return snapshot_id


async def rested(tx: Transaction, watch: Watch, state: policy.State, profile: Profile | None) -> None:
    """Write a policy state whose chart is reset: what was under way has ended."""
    chart = state.chart
    if chart is not None:
        reference = profile.errors.block_means if profile is not None and profile.errors is not None else None
        chart = Chart.from_json(chart).reset(reference).to_json()
    await deployments.set_policy(tx, watch.deployment.name, replace(state.ended(), chart=chart).to_json())
