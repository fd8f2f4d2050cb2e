# Generated from ../_async by tools/unasync.py; do not edit.
"""Outcomes, drift, performance and the ledger: ``client.monitoring``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from perennial.client._sync.calls import Calls, pages
from perennial.client.rows import Time, Times, as_datetime, as_times_us
from perennial.v1 import monitor_pb2 as pb
from perennial.v1.common_pb2 import Page
from perennial.v1.events_pb2 import LogSnapshot, QualityIncident
from perennial.v1.monitor_pb2_grpc import MonitorServiceStub

_SETTLE_DEADLINE_S = 300.0


class Outcomes:
    """One stream of outcomes of one deployment; its rows are numbered, so a repeated call counts once."""

    def __init__(self, calls: Calls, deployment: str) -> None:
        self._calls = calls
        self._deployment = deployment
        self.stream = f"{uuid.uuid4().hex[:24]}.0"
        self._next_n = 1

    def record(
        self,
        prediction_ids: Sequence[str],
        values: Sequence[float] | Sequence[str],
        *,
        known_at: Times | None = None,
        revisions: Sequence[int] = (),
        watermark: Time | None = None,
        flush: bool = False,
    ) -> None:
        """Truths (numbers, or classes as text) of these predictions, and how far this producer has come.

        Returns when the platform holds them for good.
        """
        request = pb.RecordOutcomesRequest(
            deployment=self._deployment,
            stream=self.stream,
            first_n=self._next_n,
            prediction_ids=prediction_ids,
            known_at_us=as_times_us(known_at),
            revisions=revisions,
            flush=flush,
        )
        if len(values) and isinstance(values[0], str):
            request.labels.extend(str(value) for value in values)
        else:
            request.numbers.extend(float(value) for value in values)
        if watermark is not None:
            request.watermark.FromDatetime(as_datetime(watermark))
        answer = self._calls.unary(self._calls.stub("monitor", MonitorServiceStub).RecordOutcomes, request)
        self._next_n = answer.next_n

    def advance(self, watermark: Time, *, flush: bool = False) -> None:
        """No truth known before this time will follow."""
        self.record((), (), watermark=watermark, flush=flush)


class Monitoring:
    """What the monitor knows of a deployment."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def _stub(self) -> Any:
        return self._calls.stub("monitor", MonitorServiceStub)

    def outcomes(self, deployment: str) -> Outcomes:
        """A new stream of outcomes."""
        return Outcomes(self._calls, deployment)

    def settle(
        self, deployment: str, time: Time, *, state_version: int = 0, ended_decisions: Sequence[str] = ()
    ) -> pb.SettleResponse:
        """Waits until folds, blocks, decisions and snapshots up to an event time are done."""
        request = pb.SettleRequest(deployment=deployment, state_version=state_version, ended_decisions=ended_decisions)
        request.time.FromDatetime(as_datetime(time))
        found: pb.SettleResponse = self._calls.unary(self._stub.Settle, request, _SETTLE_DEADLINE_S)
        return found

    def ledger(self, deployment: str) -> pb.GetLedgerResponse:
        """What was counted, late, dead-lettered and dropped, a line a version and variant."""
        found: pb.GetLedgerResponse = self._calls.unary(self._stub.GetLedger, pb.GetLedgerRequest(deployment=deployment))
        return found

    def drift(self, deployment: str) -> Iterator[pb.DriftReport]:
        """Drift reports, newest first."""
        stub = self._stub

        def fetch(token: str) -> Any:
            return self._calls.unary(
                stub.ListDriftReports, pb.ListDriftReportsRequest(deployment=deployment, page=Page(token=token))
            )

        for report in pages(fetch, lambda answer: answer.reports):
            yield report

    def performance(self, deployment: str) -> Iterator[pb.PerformanceBlock]:
        """Performance blocks, newest first."""
        stub = self._stub

        def fetch(token: str) -> Any:
            return self._calls.unary(
                stub.ListPerformance, pb.ListPerformanceRequest(deployment=deployment, page=Page(size=500, token=token))
            )

        for block in pages(fetch, lambda answer: answer.blocks):
            yield block

    def decisions(self, deployment: str, *, requested_only: bool = False) -> Iterator[pb.Decision]:
        """Decisions of the retraining policy, the no included, newest first."""
        stub = self._stub

        def fetch(token: str) -> Any:
            request = pb.ListDecisionsRequest(
                deployment=deployment, requested_only=requested_only, page=Page(size=500, token=token)
            )
            return self._calls.unary(stub.ListDecisions, request)

        for decision in pages(fetch, lambda answer: answer.decisions):
            yield decision

    def incidents(self, deployment: str) -> Iterator[QualityIncident]:
        """Quality incidents, newest first."""
        stub = self._stub

        def fetch(token: str) -> Any:
            return self._calls.unary(
                stub.ListIncidents, pb.ListIncidentsRequest(deployment=deployment, page=Page(token=token))
            )

        for incident in pages(fetch, lambda answer: answer.incidents):
            yield incident

    def snapshot(self, deployment: str) -> LogSnapshot:
        """Writes the prediction log up to what is folded now and names the cut."""
        request = pb.TakeSnapshotRequest(deployment=deployment, request_id=uuid.uuid4().hex)
        answer = self._calls.unary(self._stub.TakeSnapshot, request, _SETTLE_DEADLINE_S)
        found: LogSnapshot = answer.snapshot
        return found

    def retrain(self, deployment: str, reason: str) -> pb.Decision:
        """Asks for a retraining by hand."""
        request = pb.RequestRetrainingRequest(deployment=deployment, reason=reason, request_id=uuid.uuid4().hex)
        answer = self._calls.unary(self._stub.RequestRetraining, request)
        found: pb.Decision = answer.decision
        return found
