"""Feature views over gRPC."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from perennial.clock import Clock, to_us
from perennial.errors import InvalidArgument
from perennial.frames import Table, encode
from perennial.v1 import feature_pb2 as pb
from perennial.v1 import feature_pb2_grpc as pb_grpc

from services.feature import wire
from services.feature.domain.training import Header, Labelled, check_rows
from services.feature.store.catalog import Catalog
from services.feature.store.intake import Intake
from services.feature.store.progress import Progress
from services.feature.store.reading import Reader
from services.feature.store.training import TrainingSets

_PAGE, _MOST = 50, 1000


class FeatureService(pb_grpc.FeatureServiceServicer):
    """Views, writes, reads as of a time, and training sets."""

    def __init__(
        self,
        catalog: Catalog,
        intake: Intake,
        reader: Reader,
        training: TrainingSets,
        progress: Progress,
        clock: Clock,
        *,
        training_rows: int,
    ) -> None:
        self._catalog, self._intake, self._reader, self._training = catalog, intake, reader, training
        self._progress, self._clock, self._training_rows = progress, clock, training_rows

    async def RegisterFeatureView(self, request: pb.RegisterFeatureViewRequest, context: Any) -> pb.RegisterFeatureViewResponse:
        """Declare a view or a new version of it."""
        stored = await self._catalog.register(wire.view_from(request.view))
        return pb.RegisterFeatureViewResponse(view=wire.view_to(stored))

    async def GetFeatureView(self, request: pb.GetFeatureViewRequest, context: Any) -> pb.GetFeatureViewResponse:
        """One view."""
        return pb.GetFeatureViewResponse(view=wire.view_to((await self._catalog.get(request.name)).stored))

    async def ListFeatureViews(self, request: pb.ListFeatureViewsRequest, context: Any) -> pb.ListFeatureViewsResponse:
        """Views by name."""
        if request.page.size > _MOST:
            raise InvalidArgument(f"a page has at most {_MOST} views, not {request.page.size}")
        size = request.page.size or _PAGE
        await self._catalog.load()
        views = self._catalog.after(request.page.token, size + 1, request.entity)
        token = views[size - 1].view.name if len(views) > size else ""
        return pb.ListFeatureViewsResponse(views=[wire.view_to(known.stored) for known in views[:size]], next_token=token)

    async def WriteFeatures(self, request: pb.WriteFeaturesRequest, context: Any) -> pb.WriteFeaturesResponse:
        """Store rows, all or none."""
        sent = [wire.sent_from(part, part.view) for part in request.parts]
        stored = await self._intake.write(sent, request.stream, request.first_n)
        return pb.WriteFeaturesResponse(stored=stored.new, repeated_rows=stored.repeated)

    async def ReadOnline(self, request: pb.ReadOnlineRequest, context: Any) -> pb.ReadOnlineResponse:
        """Features as of each row's time."""
        asked = [wire.asked_from(selection) for selection in request.selections]
        table = await self._reader.read(asked, request.times_us, to_us(self._clock.now()))
        return pb.ReadOnlineResponse(features=encode(table))

    async def BuildTrainingSet(
        self, request_iterator: AsyncIterator[pb.BuildTrainingSetRequest], context: Any
    ) -> pb.BuildTrainingSetResponse:
        """Join rows with what was known at their times."""
        header, rows = await self._streamed(request_iterator)
        return pb.BuildTrainingSetResponse(training_set=await self._training.build(header, rows))

    async def GetTrainingSet(self, request: pb.GetTrainingSetRequest, context: Any) -> pb.GetTrainingSetResponse:
        """What is known of a training set."""
        return pb.GetTrainingSetResponse(training_set=await self._training.get(request.digest))

    async def AdvanceFeatures(self, request: pb.AdvanceFeaturesRequest, context: Any) -> pb.AdvanceFeaturesResponse:
        """Note how far a producer has come."""
        if not request.stream or not request.HasField("time"):
            raise InvalidArgument("stream and time are needed")
        views = [(await self._catalog.get(name)).id for name in request.views]
        await self._progress.advance(request.stream, views, request.time.ToMicroseconds())
        return pb.AdvanceFeaturesResponse()

    async def _streamed(self, requests: AsyncIterator[pb.BuildTrainingSetRequest]) -> tuple[Header, Labelled]:
        """The header and all rows, checked as they come."""
        header: Header | None = None
        parts: list[Labelled] = []
        count = 0
        async for request in requests:
            if (request.WhichOneof("part") == "header") != (header is None):
                raise InvalidArgument("the first message, and no other, is the header")
            if header is None:
                header = wire.header_from(request.header)
                await self._training.check(header)
                continue
            parts.append(wire.labelled_from(request.rows))
            check_rows(header, parts[-1].table)
            count += parts[-1].table.rows
            if count > self._training_rows:
                raise InvalidArgument(f"a training set has at most {self._training_rows} rows")
        if header is None or not count:
            raise InvalidArgument("a header and at least one row are needed")
        tables = Table.concat([part.table for part in parts])
        times, entities = (np.concatenate([getattr(part, name) for part in parts]) for name in ("times", "entities"))
        return header, Labelled(tables, times, entities)
