"""Deployments, predictions and rollouts over gRPC."""

from __future__ import annotations

from typing import Any

from perennial.clock import Clock, to_us
from perennial.errors import FailedPrecondition, InvalidArgument
from perennial.v1 import serving_pb2 as pb
from perennial.v1.common_pb2 import Page

from services.serving import wire
from services.serving.creation import Creation
from services.serving.domain import deployment as rules
from services.serving.domain.spec import TimeMode
from services.serving.engine.fleet import Fleet
from services.serving.engine.predict import DataPlane
from services.serving.engine.shadow import Shadow
from services.serving.rollout.controller import Controller
from services.serving.store import Store

_USUAL_PAGE, _LARGEST_PAGE = 50, 1000
_SETTLE_S = 120.0


class ServingService:
    """The RPCs of ``serving.proto``."""

    def __init__(
        self, store: Store, creation: Creation, controller: Controller, fleet: Fleet, *, plane: DataPlane, shadow: Shadow,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._store = store
        self._creation = creation
        self._controller = controller
        self._fleet = fleet
        self._shadow = shadow
        self._clock = clock
        self._predict = plane.predict

    async def CreateDeployment(self, request: pb.CreateDeploymentRequest, context: Any) -> pb.CreateDeploymentResponse:
        """See the proto."""
        deployment = await self._creation.create(wire.spec_from(request.spec), to_us(self._clock.now()))
        return pb.CreateDeploymentResponse(deployment=wire.deployment_to(deployment))

    async def GetDeployment(self, request: pb.GetDeploymentRequest, context: Any) -> pb.GetDeploymentResponse:
        """See the proto."""
        return pb.GetDeploymentResponse(deployment=wire.deployment_to(await self._store.get(request.name)))

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Any) -> pb.ListDeploymentsResponse:
        """See the proto."""
        size = _size(request.page)
        found = await self._store.every(model=request.model, after=request.page.token, most=size + 1)
        return pb.ListDeploymentsResponse(
            deployments=[wire.deployment_to(one) for one in found[:size]],
            next_token=found[size - 1].name if len(found) > size else "",
        )

    async def UpdateDeployment(self, request: pb.UpdateDeploymentRequest, context: Any) -> pb.UpdateDeploymentResponse:
        """See the proto."""
        rollout = wire.rollout_policy_from(request.rollout) if request.HasField("rollout") else None
        monitoring = wire.carried(wire.monitoring_from(request.monitoring)) if request.HasField("monitoring") else {}
        after = await self._store.update(
            request.name, lambda d: rules.governed(d, rollout=rollout, **monitoring), "deployment.update"
        )
        await self._fleet.serve(after)
        return pb.UpdateDeploymentResponse(deployment=wire.deployment_to(after))

    async def RetireDeployment(self, request: pb.RetireDeploymentRequest, context: Any) -> pb.RetireDeploymentResponse:
        """See the proto."""
        now_us = self._controller.now_us(await self._store.get(request.name))
        after = await self._store.update(request.name, lambda d: rules.retired(d, now_us), "deployment.retire")
        await self._fleet.serve(after)
        return pb.RetireDeploymentResponse(deployment=wire.deployment_to(after))

    async def Predict(self, request: pb.PredictRequest, context: Any) -> pb.PredictResponse:
        """See the proto."""
        return await self._predict(request)

    async def AdvanceWatermark(self, request: pb.AdvanceWatermarkRequest, context: Any) -> pb.AdvanceWatermarkResponse:
        """See the proto."""
        await self._event_time(request.deployment)
        await self._shadow.drained(request.deployment)
        stands = await self._store.advance(request.deployment, wire.us_from(request.time, "time"))
        self._fleet.advance(request.deployment, stands, flush=request.flush)
        return pb.AdvanceWatermarkResponse(time=wire.timestamp(stands))

    async def SettleServing(self, request: pb.SettleServingRequest, context: Any) -> pb.SettleServingResponse:
        """See the proto."""
        left = context.time_remaining()
        after = await self._controller.settle(
            request.deployment, wire.us_from(request.time, "time"), list(request.versions),
            deadline_s=_SETTLE_S if left is None else max(min(left - 0.5, _SETTLE_S), 0.1),
        )  # fmt: skip
        return pb.SettleServingResponse(deployment=wire.deployment_to(after))

    async def StartRollout(self, request: pb.StartRolloutRequest, context: Any) -> pb.StartRolloutResponse:
        """See the proto."""
        rollout = await self._controller.start(request.deployment, request.version)
        return pb.StartRolloutResponse(rollout=wire.rollout_to(rollout))

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Any) -> pb.GetRolloutResponse:
        """See the proto."""
        return pb.GetRolloutResponse(rollout=wire.rollout_to(await self._store.rollout(request.rollout_id)))

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Any) -> pb.ListRolloutsResponse:
        """See the proto."""
        size = _size(request.page)
        before = _number(request.page.token)
        found = await self._store.rollouts(request.deployment, before=before, most=size + 1)
        token = str(found[size - 1][0]) if len(found) > size else ""
        return pb.ListRolloutsResponse(rollouts=[wire.rollout_to(rollout) for _, rollout in found[:size]], next_token=token)

    async def AbortRollout(self, request: pb.AbortRolloutRequest, context: Any) -> pb.AbortRolloutResponse:
        """See the proto."""
        rollout = await self._controller.abort(request.rollout_id, request.reason or "ended by hand")
        return pb.AbortRolloutResponse(rollout=wire.rollout_to(rollout))

    async def _event_time(self, name: str) -> None:
        mode = self._fleet.time_of(name) or (await self._store.get(name)).spec.time
        if mode is not TimeMode.EVENT:
            raise FailedPrecondition(f"deployment {name} follows arrival: its watermark follows the clock")


def _size(page: Page) -> int:
    if page.size > _LARGEST_PAGE:
        raise InvalidArgument(f"page.size {page.size} is more than {_LARGEST_PAGE}")
    return page.size or _USUAL_PAGE


def _number(token: str) -> int:
    if not token:
        return 1 << 62
    if not token.isdecimal():
        raise InvalidArgument("page.token is none of ours")
    return int(token)
