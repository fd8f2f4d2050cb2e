"""How does what a guardrail decided in this process become known everywhere?

The challenger gets no more rows here at once; that it is out is written as soon as the database can be reached.
"""

from __future__ import annotations

import asyncio

from perennial import metrics
from perennial.errors import NotFound, PerennialError
from perennial.runtime import telemetry

from services.serving.engine.line import Line
from services.serving.rollout.controller import Controller

_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
_LOG = telemetry.log(__name__)


class Guardrails:
    """Cuts on their way to the controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._cuts: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue()

    def cut(self, line: Line, reason: str) -> None:
        """A challenger was taken out here."""
        rollout = line.deployment.rollout
        version = rollout.challenger if rollout else ""
        kind = reason.split(":", maxsplit=1)[0][:60]
        telemetry.metric(metrics.VARIANT_CUT).labels(line.deployment.name, version, kind).inc()
        self._cuts.put_nowait((line.deployment.name, line.rollout_id, reason))

    async def run(self) -> None:
        """Write each cut, tried until it is written."""
        while True:
            name, rollout_id, reason = await self._cuts.get()
            pause = _PAUSE_S
            while not await self._written(name, rollout_id, reason):
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _written(self, name: str, rollout_id: str, reason: str) -> bool:
        try:
            await self._controller.take_out(name, rollout_id, reason)
        except NotFound:
            return True
        except PerennialError as error:
            _LOG.warning("a cut variant cannot be reported yet", deployment=name, error=str(error))
            return False
        return True
