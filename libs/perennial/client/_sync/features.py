# Generated from ../_async by tools/unasync.py; do not edit.
"""Feature views: ``client.features``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perennial.client._sync.calls import Calls, pages
from perennial.client.rows import Rows, Time, Times, as_datetime, as_table, as_times_us
from perennial.client.selections import selection, training_rows, view_rows
from perennial.frames import Table, decode
from perennial.v1 import feature_pb2 as pb
from perennial.v1.common_pb2 import Page
from perennial.v1.feature_pb2_grpc import FeatureServiceStub

_BUILD_DEADLINE_S = 1800.0


class Features:
    """Declares views, writes source rows, reads features and builds training sets."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._stream = uuid.uuid4().hex
        self._next_n = 1

    @property
    def _stub(self) -> Any:
        return self._calls.stub("feature", FeatureServiceStub)

    def register(self, view: pb.FeatureView) -> pb.FeatureView:
        """Declares a view, or a new version of it."""
        request = pb.RegisterFeatureViewRequest(view=view, request_id=uuid.uuid4().hex)
        answer = self._calls.unary(self._stub.RegisterFeatureView, request)
        found: pb.FeatureView = answer.view
        return found

    def views(self) -> Iterator[pb.FeatureView]:
        """Every view, by name."""
        stub = self._stub

        def fetch(token: str) -> Any:
            return self._calls.unary(stub.ListFeatureViews, pb.ListFeatureViewsRequest(page=Page(token=token)))

        for view in pages(fetch, lambda answer: answer.views):
            yield view

    def write(self, parts: Mapping[str, tuple[Rows, Times] | tuple[Rows, Times, Times]]) -> int:
        """Stores source rows, ``view -> (rows, event times[, known at])``; returns how many were new.

        All parts are stored or none. The rows are numbered in this client's own stream, so a repeat after a lost answer
        stores nothing twice.
        """
        request = pb.WriteFeaturesRequest(stream=self._stream, first_n=self._next_n)
        for view, part in parts.items():
            request.parts.append(view_rows(view, *part))
        answer = self._calls.unary(self._stub.WriteFeatures, request)
        self._next_n += sum(len(part.event_times_us) for part in request.parts)
        stored: int = answer.stored
        return stored

    def read(
        self,
        selections: Mapping[str, Sequence[str | None]],
        *,
        features: Mapping[str, Sequence[str]] | None = None,
        times: Times | None = None,
    ) -> Table:
        """Features of many entities over several views (``view -> keys``), each row as of its own time (default now)."""
        request = pb.ReadOnlineRequest(times_us=as_times_us(times))
        for view, keys in selections.items():
            request.selections.append(selection(view, keys, (features or {}).get(view, ())))
        answer = self._calls.unary(self._stub.ReadOnline, request)
        return decode(answer.features)

    def training_set(
        self,
        rows: Rows,
        times: Times,
        joins: Sequence[pb.FeatureJoin],
        *,
        labels: Sequence[str],
        name: str = "",
        entity_keys: Sequence[str] = (),
        known_by: Time | None = None,
    ) -> pb.TrainingSet:
        """Joins features to rows, point in time, and stores the table under its digest."""
        header = pb.TrainingSetHeader(name=name, joins=joins, label_columns=labels)
        if known_by is not None:
            header.known_by.FromDatetime(as_datetime(known_by))
        parts: Iterator[pb.BuildTrainingSetRequest] = training_rows(header, as_table(rows), as_times_us(times), entity_keys)
        answer = self._calls.unary(self._stub.BuildTrainingSet, parts, _BUILD_DEADLINE_S)
        found: pb.TrainingSet = answer.training_set
        return found

    def get_training_set(self, digest: str) -> pb.TrainingSet:
        """What is known of a training set."""
        answer = self._calls.unary(self._stub.GetTrainingSet, pb.GetTrainingSetRequest(digest=digest))
        found: pb.TrainingSet = answer.training_set
        return found
