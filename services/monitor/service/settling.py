"""When is a deployment settled? Everything up to an event time is folded, closed and decided, and its snapshots are written."""

import asyncio

from perennial.errors import DeadlineExceeded, FailedPrecondition, NotFound
from perennial.runtime.postgres import Postgres

from services.monitor import wire
from services.monitor.agent.catalog import Catalog
from services.monitor.closing.closer import Closer
from services.monitor.domain.policy import PENDING
from services.monitor.store import decisions, deployments
from services.monitor.store.deployments import Watch

LOOK_AGAIN_S = 0.25
MARGIN_S = 0.2


class Settling:
    """Waits for a deployment's time."""

    def __init__(self, postgres: Postgres, catalog: Catalog, closer: Closer) -> None:
        self._postgres, self._catalog, self._closer = postgres, catalog, closer

    async def settled(self, name: str, time_us: int, within_s: float) -> tuple[Watch, list[str]]:
        """The deployment and the decisions whose job has not ended, once all up to ``time_us`` is done.

        FailedPrecondition in arrival time; DeadlineExceeded says what is waited for.
        """
        deployment = await self._catalog.get(name)
        if not deployment.event_time:
            raise FailedPrecondition(f"{name} follows the clock; only a deployment in event time can be settled")
        end = asyncio.get_running_loop().time() + within_s - MARGIN_S
        while True:
            watch = await deployments.get(self._postgres, name)
            if watch is None:
                raise NotFound(f"no deployment {name}")
            open_decisions = await decisions.under_way(self._postgres, name)
            missing = self._missing(watch, time_us, [d["decision_id"] for d in open_decisions if d["state"] == PENDING])
            if not missing:
                return watch, [d["decision_id"] for d in open_decisions]
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                raise DeadlineExceeded(f"{name} waits for {missing}")
            await self._moved(min(left, LOOK_AGAIN_S))

    async def _moved(self, within_s: float) -> None:
        """Wait for a pass of this process's closer; another worker's is seen at the next look."""
        try:
            async with asyncio.timeout(within_s), self._closer.moved:
                await self._closer.moved.wait()
        except TimeoutError:
            return

    def _missing(self, watch: Watch, time_us: int, unwritten: list[str]) -> str:
        """What is not done yet, in words; empty when everything is."""
        wanted = wire.time_of(time_us).isoformat()
        problem = f" ({self._closer.problem})" if self._closer.problem else ""
        for kind, us in (("prediction", watch.prediction_us), ("outcome", watch.outcome_us)):
            if us is None or us < time_us:
                there = "nowhere yet" if us is None else f"at {wire.time_of(us).isoformat()}"
                return f"the {kind} watermark to reach {wanted}; it is {there}{problem}"
        return f"the log snapshot of decision {unwritten[0]}" if unwritten else ""
