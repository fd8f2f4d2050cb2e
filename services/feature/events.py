"""Feature rows from ``perennial.features``: the same path as over gRPC; rows that are refused go to the dead letter."""

from perennial.errors import InvalidArgument, NotFound
from perennial.runtime.events import Received, Refused
from perennial.v1.events_pb2 import FeatureRows, StreamProgress

from services.feature import wire
from services.feature.store.intake import Intake
from services.feature.store.progress import Progress

GROUP = "feature-ingest"
TYPES = ("FeatureRows", "StreamProgress")


class Ingest:
    """Handles the events of the topic."""

    def __init__(self, intake: Intake, progress: Progress) -> None:
        self._intake, self._progress = intake, progress

    async def on_event(self, event: Received) -> None:
        """Store the event's rows. Good rows are stored also when others are refused; then the whole event is kept aside.

        Its replay is harmless: positions that were stored are repeats.
        """
        message = event.message
        if isinstance(message, StreamProgress):
            await self._progress.advance(message.stream, (), message.watermark_us)
        elif isinstance(message, FeatureRows):
            await self._on_rows(message, event)

    async def _on_rows(self, message: FeatureRows, event: Received) -> None:
        stream, first = (message.stream, message.first_n) if message.stream else (f"event:{event.source}:{event.id}", 1)
        try:
            _, wrong = await self._intake.write_good(wire.sent_from(message, message.view), stream, first)
        except (InvalidArgument, NotFound) as error:
            raise Refused(error.message) from error
        if wrong is not None:
            raise Refused(wrong.message)
