"""What has to be so before a deployment can begin?"""

from __future__ import annotations

from perennial.errors import FailedPrecondition, InvalidArgument, NotFound
from perennial.runtime.peers import Peers
from perennial.v1.feature_pb2 import GetFeatureViewRequest

from services.serving.domain.deployment import CHAMPION, Deployment
from services.serving.domain.rollout import Build
from services.serving.domain.spec import FeatureBinding, Spec
from services.serving.engine.fleet import Fleet
from services.serving.models import Models
from services.serving.store import Store


class Creation:
    """Puts a model version to work under a name."""

    def __init__(self, store: Store, models: Models, fleet: Fleet, peers: Peers) -> None:
        self._store = store
        self._models = models
        self._fleet = fleet
        self._peers = peers

    async def create(self, spec: Spec, now_us: int) -> Deployment:
        """The deployment, answering. Errors as CreateDeployment."""
        build = (await self._models.version(spec.model, spec.version or f"@{CHAMPION}")).build
        await self._check_features(spec, build)
        follows = await self._follows(spec, build)
        deployment = await self._store.create(Deployment(spec, build, now_us, follows))
        await self._fleet.serve(deployment)
        return deployment

    async def _follows(self, spec: Spec, build: Build) -> bool:
        """Whether the deployment's champion is the model's: it is when the alias names it, or named nothing so far."""
        alias = await self._models.champion(spec.model)
        if not alias:
            request_id = f"first champion of {spec.name}"
            alias = await self._models.promote(spec.model, build.version, expected="", request_id=request_id)
        return alias == build.version

    async def _check_features(self, spec: Spec, build: Build) -> None:
        """FailedPrecondition when a view lacks a feature or the model lacks the column."""
        columns = {column["name"] for column in build.signature["columns"]}
        for binding in spec.features:
            if unknown := sorted(set(binding.columns) - columns):
                raise FailedPrecondition(f"model {spec.model} {build.version} has no column {', '.join(unknown)}")
            await self._check_view(binding)

    async def _check_view(self, binding: FeatureBinding) -> None:
        try:
            answer = await self._peers.feature.GetFeatureView(GetFeatureViewRequest(name=binding.view))
        except NotFound:
            raise NotFound(f"no feature view {binding.view!r}") from None
        if not answer.view.features:
            raise InvalidArgument(f"feature view {binding.view} has no features")
        if missing := sorted(set(binding.features) - {feature.name for feature in answer.view.features}):
            raise FailedPrecondition(f"feature view {binding.view} has no feature {', '.join(missing)}")
