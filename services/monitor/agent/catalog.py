"""Which deployments are there? What is stored of them, kept in memory, and asked of serving when a name is new."""

import asyncio

from perennial.errors import NotFound
from perennial.runtime.peers import Peers
from perennial.runtime.postgres import Postgres
from perennial.v1 import serving_pb2

from services.monitor import wire
from services.monitor.domain.deployments import Deployment
from services.monitor.store import deployments

ASK_S = 3.0


class Catalog:
    """The deployments by name."""

    def __init__(self, postgres: Postgres, peers: Peers) -> None:
        self._postgres = postgres
        self._peers = peers
        self._known: dict[str, Deployment] = {}
        self._lock = asyncio.Lock()

    async def get(self, name: str) -> Deployment:
        """The deployment; NotFound when serving knows none of that name, Unavailable when it cannot be asked."""
        found = self._known.get(name)
        if found is None:
            async with self._lock:
                found = self._known.get(name) or await self._looked_up(name)
        return found

    def known(self, name: str) -> Deployment | None:
        """The deployment if it is in memory."""
        return self._known.get(name)

    async def put(self, message: serving_pb2.Deployment) -> bool:
        """Take what serving says; False when something newer is known."""
        deployment = wire.deployment_from(message)
        before = self._known.get(deployment.name)
        if before is not None:
            deployment = wire.with_artifacts(deployment, before)
        elif (watch := await deployments.get(self._postgres, deployment.name)) is not None:
            deployment = wire.with_artifacts(deployment, watch.deployment)
        news = await deployments.put(self._postgres, deployment, message.state_version)
        if news:
            self._known[deployment.name] = deployment
        return news

    async def _looked_up(self, name: str) -> Deployment:
        watch = await deployments.get(self._postgres, name)
        if watch is None:
            if not name:
                raise NotFound("no deployment is named")
            answer = await self._peers.serving.GetDeployment(serving_pb2.GetDeploymentRequest(name=name), timeout=ASK_S)
            await self.put(answer.deployment)
            watch = await deployments.get(self._postgres, name)
            if watch is None:
                raise NotFound(f"no deployment {name}")
        self._known[name] = watch.deployment
        return watch.deployment
