"""Which events move rollouts?"""

from __future__ import annotations

from perennial.errors import NotFound
from perennial.runtime.events import Received
from perennial.v1.events_pb2 import AliasMoved, ApprovalDecided, ModelVersionRegistered, VariantsCompared

from services.serving.domain.deployment import CHAMPION
from services.serving.rollout.controller import Controller
from services.serving.store import Registration

MODEL_EVENTS = ("ModelVersionRegistered", "AliasMoved", "ApprovalDecided")
MONITORING_EVENTS = ("VariantsCompared",)


class Hearing:
    """Hands events of registry and monitor to the controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def on_model(self, event: Received) -> None:
        """A version was registered, an alias moved, or a person decided."""
        message = event.message
        if isinstance(message, ModelVersionRegistered):
            await self._on_registered(event, message)
        elif isinstance(message, AliasMoved):
            if message.alias == CHAMPION:
                await self._controller.converge(message.model)
        elif isinstance(message, ApprovalDecided):
            await self._controller.approve(message.model, message.version, yes=message.approved)

    async def on_monitoring(self, event: Received) -> None:
        """The monitor compared variants."""
        if isinstance(event.message, VariantsCompared):
            await self._controller.compare(event.message)

    async def _on_registered(self, event: Received, message: ModelVersionRegistered) -> None:
        if not message.deployment:
            return
        heard = Registration(
            message.deployment, message.version, event.id, event.correlation_id, message.decision_id, message.approval_required
        )
        try:
            await self._controller.hear(heard)
        except NotFound:
            return  # a deployment of another platform, or one that was never made
