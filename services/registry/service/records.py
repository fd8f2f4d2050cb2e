"""Calls on what happened: stage moves, events, chains."""

from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2 as pb

from services.registry import wire
from services.registry.service.calling import Context, page_of
from services.registry.store import History, Models
from services.registry.store.history import KeptEvent


class RecordCalls:
    """Histories."""

    _models: Models
    _history: History

    async def ListStageHistory(
        self, request: pb.ListStageHistoryRequest, context: Context
    ) -> pb.ListStageHistoryResponse:
        """Every move of a version's stage, newest first."""
        page = page_of(request.page, "stage-history", request.name, request.version)
        moves, token = await self._models.stage_history(wire.key(request.name), wire.key(request.version), page)
        changes = [wire.stage_change_to(fact, at) for fact, at in moves]
        return pb.ListStageHistoryResponse(changes=changes, next_token=token)

    async def ListChain(self, request: pb.ListChainRequest, context: Context) -> pb.ListChainResponse:
        """Every event of a causal chain, in order."""
        events = await self._history.chain(wire.key(request.correlation_id))
        return pb.ListChainResponse(events=map(chain_event_to, events))

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        """Events of the platform, newest first."""
        page = page_of(request.page, "events", request.type, request.subject)
        events, token = await self._history.page(wire.key(request.type), wire.key(request.subject), page)
        return pb.ListEventsResponse(events=map(chain_event_to, events), next_token=token)


def chain_event_to(event: KeptEvent) -> common.ChainEvent:
    """The wire's event."""
    return common.ChainEvent(
        id=event.id,
        type=event.type,
        source=event.source,
        subject=event.subject,
        time=wire.time_to(event.at),
        recorded_at=wire.time_to(event.recorded_at) if event.recorded_at else None,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        topic=event.topic,
        data=wire.struct_to(event.data),
    )
