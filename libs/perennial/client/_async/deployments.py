"""Deployments and rollouts: ``client.deployments``."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from perennial.client._async.calls import AsyncCalls, pages
from perennial.client.rows import Predictions, Rows, Time, Times, as_datetime, as_table, as_times_us
from perennial.frames import encode
from perennial.v1 import serving_pb2 as pb
from perennial.v1.common_pb2 import Page
from perennial.v1.serving_pb2_grpc import ServingServiceStub

_PREDICT_DEADLINE_S = 10.0
_SETTLE_DEADLINE_S = 300.0


class AsyncDeployments:
    """Creates deployments, asks them for predictions and steers their rollouts."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = calls

    @property
    def _stub(self) -> Any:
        return self._calls.stub("serving", ServingServiceStub)

    async def create(self, spec: pb.DeploymentSpec) -> pb.Deployment:
        """Puts a model version to work."""
        request = pb.CreateDeploymentRequest(spec=spec, request_id=uuid.uuid4().hex)
        answer = await self._calls.unary(self._stub.CreateDeployment, request)
        found: pb.Deployment = answer.deployment
        return found

    async def get(self, name: str) -> pb.Deployment:
        """One deployment with its state."""
        answer = await self._calls.unary(self._stub.GetDeployment, pb.GetDeploymentRequest(name=name))
        found: pb.Deployment = answer.deployment
        return found

    async def list(self) -> AsyncIterator[pb.Deployment]:
        """Every deployment, by name."""
        stub = self._stub

        async def fetch(token: str) -> Any:
            return await self._calls.unary(stub.ListDeployments, pb.ListDeploymentsRequest(page=Page(token=token)))

        async for deployment in pages(fetch, lambda answer: answer.deployments):
            yield deployment

    async def retire(self, name: str) -> pb.Deployment:
        """Ends a deployment; its history stays."""
        request = pb.RetireDeploymentRequest(name=name, request_id=uuid.uuid4().hex)
        answer = await self._calls.unary(self._stub.RetireDeployment, request)
        found: pb.Deployment = answer.deployment
        return found

    async def predict(
        self,
        deployment: str,
        rows: Rows,
        *,
        times: Times | None = None,
        entity_keys: Sequence[str] = (),
        request_id: str = "",
        deadline_s: float = _PREDICT_DEADLINE_S,
    ) -> Predictions:
        """Answers rows: the model's columns, or entity keys where the deployment is bound to feature views.

        With a ``request_id`` the same call may be repeated for ten minutes and is answered and counted once.
        """
        request = pb.PredictRequest(
            deployment=deployment,
            rows=encode(as_table(rows)),
            entity_keys=entity_keys,
            event_times_us=as_times_us(times),
            request_id=request_id,
        )
        return Predictions.of(await self._calls.unary(self._stub.Predict, request, deadline_s))

    async def advance(self, deployment: str, time: Time, *, flush: bool = False) -> None:
        """Replays: no prediction before this event time will follow."""
        request = pb.AdvanceWatermarkRequest(deployment=deployment, flush=flush)
        request.time.FromDatetime(as_datetime(time))
        await self._calls.unary(self._stub.AdvanceWatermark, request, _SETTLE_DEADLINE_S)

    async def settle(self, deployment: str, time: Time, versions: Sequence[str] = ()) -> pb.Deployment:
        """Replays: waits until the rollout has acted on everything up to an event time."""
        request = pb.SettleServingRequest(deployment=deployment, versions=versions)
        request.time.FromDatetime(as_datetime(time))
        answer = await self._calls.unary(self._stub.SettleServing, request, _SETTLE_DEADLINE_S)
        found: pb.Deployment = answer.deployment
        return found

    async def rollouts(self, deployment: str) -> AsyncIterator[pb.Rollout]:
        """Rollouts of a deployment, newest first."""
        stub = self._stub

        async def fetch(token: str) -> Any:
            return await self._calls.unary(
                stub.ListRollouts, pb.ListRolloutsRequest(deployment=deployment, page=Page(token=token))
            )

        async for rollout in pages(fetch, lambda answer: answer.rollouts):
            yield rollout

    async def start_rollout(self, deployment: str, version: str) -> pb.Rollout:
        """Opens a rollout by hand."""
        request = pb.StartRolloutRequest(deployment=deployment, version=version, request_id=uuid.uuid4().hex)
        answer = await self._calls.unary(self._stub.StartRollout, request)
        found: pb.Rollout = answer.rollout
        return found

    async def abort_rollout(self, rollout_id: str, reason: str) -> pb.Rollout:
        """Ends an open rollout."""
        request = pb.AbortRolloutRequest(rollout_id=rollout_id, reason=reason, request_id=uuid.uuid4().hex)
        answer = await self._calls.unary(self._stub.AbortRollout, request)
        found: pb.Rollout = answer.rollout
        return found
