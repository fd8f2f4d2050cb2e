"""What may a person ask for? A retraining, and a cut of the prediction log."""

import asyncio
from collections.abc import Callable
from typing import Any

from perennial.clock import Clock, to_us
from perennial.errors import DeadlineExceeded, FailedPrecondition, NotFound
from perennial.runtime.identity import caller
from perennial.runtime.postgres import Postgres

from services.monitor.agent.references import References
from services.monitor.closing.moment import Moment, cut_log
from services.monitor.config import MonitorConfig
from services.monitor.domain.policy import Wish
from services.monitor.store import decisions, deployments

LOOK_S = 0.1
WAIT_S = 30.0


class Requests:
    """Carries out what people ask of the policy and the log."""

    def __init__(
        self, config: MonitorConfig, postgres: Postgres, references: References, clock: Clock, on_cut: Callable[[], None]
    ) -> None:
        self._config, self._postgres, self._references = config, postgres, references
        self._clock, self._on_cut = clock, on_cut

    async def retraining(self, name: str, reason: str) -> Any:
        """Ask for a retraining by hand; the decision. FailedPrecondition while one is under way."""
        async with self._postgres.transaction() as tx:
            watch = await deployments.lock(tx, name)
            if watch is None:
                raise NotFound(f"no deployment {name}")
            moment = Moment(tx, watch, self._references, self._config, watch.prediction_us, watch.outcome_us)
            now_us = watch.both_us if watch.deployment.event_time and watch.both_us is not None else to_us(self._clock.now())
            wish = Wish("manual", reason or f"asked for by {caller().name}")
            verdict = await moment.decide(now_us, [wish], always=False)
            if not verdict.requested:
                raise FailedPrecondition(f"{name}: no retraining can be asked for now: {verdict.reason}")
            await moment.save()
            row = await decisions.get(tx, moment.state.open)
        self._on_cut()
        return row

    async def snapshot(self, name: str, request_id: str, within_s: float) -> Any:
        """Cut the log at what is folded now and wait until the cut is written; the same request id names the same cut."""
        async with self._postgres.transaction() as tx:
            found = await decisions.requested_cut(tx, name, request_id) if request_id else None
            if found is None:
                watch = await deployments.get(tx, name)
                if watch is None:
                    raise NotFound(f"no deployment {name}")
                found = await cut_log(
                    tx,
                    name,
                    from_us=-(2**62),
                    prediction_us=watch.prediction_us,
                    outcome_us=watch.outcome_us,
                    request_id=request_id,
                )
        self._on_cut()
        end = asyncio.get_running_loop().time() + min(within_s, WAIT_S)
        while asyncio.get_running_loop().time() < end:
            row = await decisions.snapshot(self._postgres, found)
            if row["manifest_key"]:
                return row
            await asyncio.sleep(LOOK_S)
        raise DeadlineExceeded(f"{name}: the log is not written up to the cut yet; ask again with the same request_id")
