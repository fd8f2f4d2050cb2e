"""The monitor over gRPC: decode, call, encode."""

from collections.abc import Sequence
from typing import Any

from perennial.errors import NotFound
from perennial.runtime.postgres import Postgres
from perennial.v1 import monitor_pb2 as pb
from perennial.v1 import monitor_pb2_grpc

from services.monitor import wire
from services.monitor.agent.catalog import Catalog
from services.monitor.domain.joining import sums_from
from services.monitor.service.pages import END, after, page_of
from services.monitor.service.recording import Recorder
from services.monitor.service.requesting import Requests
from services.monitor.service.settling import Settling
from services.monitor.store import blocks, decisions, ledger, panes


class MonitorService(monitor_pb2_grpc.MonitorServiceServicer):
    """Drift, performance, the ledger, the prediction log and the policy."""

    def __init__(self, postgres: Postgres, catalog: Catalog, recorder: Recorder, settling: Settling, requests: Requests) -> None:
        self._postgres, self._catalog = postgres, catalog
        self._recorder, self._settling, self._requests = recorder, settling, requests

    async def RecordOutcomes(self, request: pb.RecordOutcomesRequest, context: Any) -> pb.RecordOutcomesResponse:
        """See monitor.proto."""
        deployment = await self._catalog.get(request.deployment)
        return pb.RecordOutcomesResponse(next_n=await self._recorder.outcomes(deployment, request))

    async def LogPredictions(self, request: pb.LogPredictionsRequest, context: Any) -> pb.LogPredictionsResponse:
        """See monitor.proto."""
        deployment = await self._catalog.get(request.deployment)
        return pb.LogPredictionsResponse(accepted=await self._recorder.predictions(deployment, request))

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.SettleResponse:
        """See monitor.proto."""
        watch, waiting = await self._settling.settled(request.deployment, wire.us_from(request.time), _remaining(context))
        return pb.SettleResponse(
            open_decisions=waiting,
            prediction_watermark=wire.stamp(watch.prediction_us),
            outcome_watermark=wire.stamp(watch.outcome_us),
        )

    async def GetLedger(self, request: pb.GetLedgerRequest, context: Any) -> pb.GetLedgerResponse:
        """See monitor.proto."""
        await self._catalog.get(request.deployment)
        lines = await ledger.lines(self._postgres, request.deployment)
        unmatched = await ledger.unmatched(self._postgres, request.deployment)
        return pb.GetLedgerResponse(lines=[wire.ledger_line_to(line) for line in lines], unmatched_outcomes=unmatched)

    async def ListDriftReports(self, request: pb.ListDriftReportsRequest, context: Any) -> pb.ListDriftReportsResponse:
        """See monitor.proto."""
        before, size = await self._page(request)
        rows = await panes.reports_page(self._postgres, request.deployment, before, size)
        return pb.ListDriftReportsResponse(reports=map(wire.report_to, rows), next_token=_token(rows, size, "n"))

    async def ListPerformance(self, request: pb.ListPerformanceRequest, context: Any) -> pb.ListPerformanceResponse:
        """See monitor.proto."""
        before, size = await self._page(request)
        rows = await blocks.page(self._postgres, request.deployment, request.version, before, size + 1)
        shown, token = after(rows, size)
        found = [wire.block_to(row, sums.figures() if (sums := sums_from(row["sums"])) else {}) for row in shown]
        return pb.ListPerformanceResponse(blocks=found, next_token=token)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Any) -> pb.ListDecisionsResponse:
        """See monitor.proto."""
        before, size = await self._page(request)
        rows = await decisions.page(self._postgres, request.deployment, before, size, requested_only=request.requested_only)
        return pb.ListDecisionsResponse(decisions=map(wire.decision_to, rows), next_token=_token(rows, size, "n"))

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Any) -> pb.ListIncidentsResponse:
        """See monitor.proto."""
        before, size = await self._page(request)
        rows = await decisions.incidents_page(self._postgres, request.deployment, before, size)
        return pb.ListIncidentsResponse(incidents=map(wire.incident_to, rows), next_token=_token(rows, size, "n"))

    async def TakeSnapshot(self, request: pb.TakeSnapshotRequest, context: Any) -> pb.TakeSnapshotResponse:
        """See monitor.proto."""
        await self._catalog.get(request.deployment)
        row = await self._requests.snapshot(request.deployment, request.request_id, _remaining(context))
        return pb.TakeSnapshotResponse(snapshot=wire.snapshot_to(row))

    async def RequestRetraining(self, request: pb.RequestRetrainingRequest, context: Any) -> pb.RequestRetrainingResponse:
        """See monitor.proto."""
        await self._catalog.get(request.deployment)
        row = await self._requests.retraining(request.deployment, request.reason)
        return pb.RequestRetrainingResponse(decision=wire.decision_to(row))

    async def _page(self, request: Any) -> tuple[int, int]:
        if not request.deployment:
            raise NotFound("no deployment is named")
        await self._catalog.get(request.deployment)
        return page_of(request.page)


def _token(rows: Sequence[Any], size: int, column: str) -> str:
    return str(rows[-1][column]) if len(rows) == size else END


def _remaining(context: Any) -> float:
    """Seconds the caller still waits."""
    left: float | None = context.time_remaining()
    return 60.0 if left is None else left
