"""Calls on models: what holds for all versions, aliases."""

from perennial.v1 import registry_pb2 as pb

from services.registry import wire
from services.registry.domain.names import checked_name, checked_text
from services.registry.service.calling import Context, actor, page_of
from services.registry.store import Models


class ModelCalls:
    """Models and their aliases."""

    _models: Models

    async def UpsertModel(self, request: pb.UpsertModelRequest, context: Context) -> pb.UpsertModelResponse:
        """Makes a model or changes what holds for all its versions."""
        name, tags = checked_name(request.name, "model"), wire.tags_from(request.tags)
        description = checked_text(request.description, "description")
        async with self._models.locked(name, create=True) as record:
            await record.set(description=description, tags=tags, approval_required=request.approval_required)
        return pb.UpsertModelResponse(model=wire.model_to(record.model))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """One model."""
        return pb.GetModelResponse(model=wire.model_to(await self._models.get(wire.key(request.name))))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Models by name."""
        models, token = await self._models.page(page_of(request.page, "models", kind=str))
        return pb.ListModelsResponse(models=map(wire.model_to, models), next_token=token)

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        """Points an alias at a version, by compare-and-set."""
        alias = checked_name(request.alias, "alias")
        async with self._models.locked(wire.key(request.name)) as record:
            record.chain = wire.chain_from(request)
            record.model.check_expected(alias, request.expected)
            target = await record.version(wire.key(request.version)) if request.version else None
            former = await record.named_by(alias)
            facts = record.model.alias_set(alias, target=target, former=former, by=actor(), request_id=request.request_id)
            await record.apply(*facts)
        return pb.SetAliasResponse(model=wire.model_to(record.model))

    async def GetVersionAt(self, request: pb.GetVersionAtRequest, context: Context) -> pb.GetVersionAtResponse:
        """The version an alias named at a time."""
        time = wire.time_from(request.time, "time") if request.HasField("time") else None
        held = await self._models.at(wire.key(request.name), wire.key(request.alias), time)
        return pb.GetVersionAtResponse(
            model_version=wire.model_version_to(held.version),
            since=wire.time_to(held.since),
            until=wire.time_to(held.until) if held.until else None,
        )

    async def ListAliasHistory(
        self, request: pb.ListAliasHistoryRequest, context: Context
    ) -> pb.ListAliasHistoryResponse:
        """Every move of a model's aliases, newest first."""
        page = page_of(request.page, "alias-history", request.name, request.alias)
        moves, token = await self._models.alias_history(wire.key(request.name), wire.key(request.alias), page)
        changes = [wire.alias_change_to(fact, at) for fact, at in moves]
        return pb.ListAliasHistoryResponse(changes=changes, next_token=token)
