"""How does a year of flights run through the platform? An hour of event time is a tick; see docs/loop.md, "The replay".

A tick writes the facts that became known, asks for the predictions of the flights that leave the gate, records the truths
that became known, and says that the hour is over. At midnight in New York, and hourly while a rollout is open, the platform
is waited for, so that two replays take the same decisions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from perennial.client import AsyncOutcomes, AsyncPerennial, Table
from perennial.clock import from_us, to_us
from perennial.v1.serving_pb2 import ROLLOUT_STATE_LIVE, ROLLOUT_STATE_PENDING, ROLLOUT_STATE_SHADOW, Deployment
from perennial.v1.trainer_pb2 import Job

from examples.flights.data import ZONE, Year, local_midnight
from examples.flights.views import REQUEST_NUMBERS, REQUEST_TEXTS, WEATHER

HOUR = timedelta(hours=1)
HOUR_US = 3_600_000_000
OPEN = (ROLLOUT_STATE_PENDING, ROLLOUT_STATE_SHADOW, ROLLOUT_STATE_LIVE)
ETA, LATE = "flights-eta", "flights-late"
# Of each view: which table its source rows are in, and which of the table's columns it takes.
SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "weather": ("weather", ("origin", *WEATHER)),
    "arrivals-by-destination": ("landings", ("dest", "air_time")),
    "pace-by-origin": ("landings", ("origin", "air_time", "miles")),
    "gain-by-carrier": ("landings", ("carrier", "gain")),
    "departures-by-origin": ("departures", ("origin", "dep_delay")),
}


class Timeline:
    """A table sorted by a time column, cut into spans of time without a copy."""

    def __init__(self, table: pl.DataFrame, by: str = "event_time_us") -> None:
        self.table = table.filter(pl.col(by).is_not_null()).sort(by, maintain_order=True)
        self.times: NDArray[np.int64] = self.table[by].to_numpy()

    def between(self, start_us: int, end_us: int) -> pl.DataFrame:
        """Rows with start <= time < end."""
        low, high = np.searchsorted(self.times, (start_us, end_us))
        return self.table.slice(int(low), int(high - low))


def as_rows(frame: pl.DataFrame, columns: tuple[str, ...]) -> Table:
    """The columns of a data frame as the client takes them."""
    return Table.of(
        {name: frame[name].to_list() if frame[name].dtype == pl.String else frame[name].to_numpy() for name in columns}
    )


@dataclass
class Tally:
    """What the replay itself saw of one deployment: its own count and every answer, by the flight's row."""

    answers: NDArray[np.float64]
    ids: dict[int, str] = field(default_factory=dict)
    acknowledged: int = 0


@dataclass
class Progress:
    """What is told while the replay runs."""

    on_tick: Callable[[datetime, Deployment], None]
    on_job: Callable[[Job], None]
    on_deployment: Callable[[datetime, Deployment], None]


class Replay:
    """The year from ``start`` to ``end``, driven through a platform."""

    def __init__(self, platform: AsyncPerennial, year: Year, progress: Progress) -> None:
        self._platform = platform
        self._progress = progress
        self.flights = year.flights.with_row_index("place")
        self._departing = Timeline(self.flights)
        self._arriving = Timeline(self.flights, "known_at_us")
        tables = {"weather": year.weather, "landings": year.landings, "departures": year.departures}
        self._sources = {name: Timeline(table) for name, table in tables.items()}
        self.tallies = {name: Tally(np.full(len(self.flights), np.nan)) for name in (ETA, LATE)}
        self._outcomes: dict[str, AsyncOutcomes] = {}
        self.deployment = Deployment()

    async def write_features(self, start_us: int, end_us: int) -> None:
        """Source rows of every view that became known in a span of time."""
        parts = {}
        for view, (source, columns) in SOURCES.items():
            frame = self._sources[source].between(start_us, end_us)
            if len(frame):
                times = frame["event_time_us"].to_numpy()
                parts[view] = (as_rows(frame, columns), times, times)
        if parts:
            await self._platform.features.write(parts)

    async def run(self, start: datetime, end: datetime) -> None:
        """Every hour from start to end; the platform is waited for at the end.

        The next hour's facts are written, and the last hour's truths recorded, beside the predictions: neither changes them.
        """
        self._outcomes = {name: self._platform.monitoring.outcomes(name) for name in (ETA, LATE)}
        self.deployment = await self._platform.deployments.get(ETA)
        now = start
        await self._write(now)
        recorded: asyncio.Task[None] | None = None
        while now < end:
            midnight = (now + HOUR).astimezone(ZONE).hour == 0
            settling = midnight or self.deployment.rollout.state in OPEN
            async with asyncio.TaskGroup() as beside:
                if recorded is not None:
                    beside.create_task(self._awaited(recorded))
                await self._predict_all(now)
                beside.create_task(self._write(now + HOUR))
            recorded = asyncio.create_task(self._record_all(now, flush=settling))
            now += HOUR
            if settling:
                await recorded
                recorded = None
                await self._settle(now)
            self._progress.on_tick(now, self.deployment)
        for name in (ETA, LATE):
            await self._platform.deployments.advance(name, now, flush=True)
            await self._outcomes[name].advance(now, flush=True)
            await self._platform.monitoring.settle(name, now)

    @staticmethod
    async def _awaited(task: asyncio.Task[None]) -> None:
        await task

    async def _write(self, now: datetime) -> None:
        await self.write_features(to_us(now), to_us(now) + HOUR_US)

    async def _predict_all(self, now: datetime) -> None:
        leaving = self._departing.between(to_us(now), to_us(now) + HOUR_US)
        if len(leaving):
            await asyncio.gather(*(self._predict(name, leaving) for name in (ETA, LATE)))

    async def _record_all(self, now: datetime, *, flush: bool) -> None:
        end_us = to_us(now) + HOUR_US
        arrived = self._arriving.between(to_us(now), end_us)
        await asyncio.gather(
            *(self._record(name, arrived, end_us, flush=flush) for name in (ETA, LATE)),
            self._platform.deployments.advance(ETA, end_us, flush=flush),
            *([self._platform.deployments.advance(LATE, end_us)] if flush else []),
        )

    async def _settle(self, now: datetime) -> None:
        settled = await self._platform.settle(ETA, now, on_job=self._progress.on_job)
        changed = settled.deployment.state_version != self.deployment.state_version
        self.deployment = settled.deployment
        if changed:
            self._progress.on_deployment(now, self.deployment)

    async def _predict(self, deployment: str, leaving: pl.DataFrame) -> None:
        rows = as_rows(leaving, (*REQUEST_NUMBERS, *REQUEST_TEXTS, "tailnum"))
        answers = await self._platform.predict(
            deployment, rows, times=leaving["event_time_us"].to_numpy(), entity_keys=leaving["flight"].to_list()
        )
        tally, places = self.tallies[deployment], leaving["place"].to_numpy()
        tally.ids.update(zip(places.tolist(), answers.ids, strict=True))
        tally.acknowledged += len(answers)
        column = "prediction" if deployment == ETA else "p:late"
        tally.answers[places] = answers.table.column(column)

    async def _record(self, deployment: str, arrived: pl.DataFrame, end_us: int, *, flush: bool) -> None:
        ids = self.tallies[deployment].ids
        known = [ids.get(place, "") for place in arrived["place"].to_list()]
        asked = [place for place, prediction in enumerate(known) if prediction]
        truths = arrived["air_time" if deployment == ETA else "is_late"].to_list()
        times = arrived["known_at_us"].to_list()
        await self._outcomes[deployment].record(
            [known[place] for place in asked],
            [truths[place] for place in asked],
            known_at=[times[place] for place in asked],
            watermark=from_us(end_us),
            flush=flush,
        )


async def load_history(replay: Replay, first_day: int, until_day: int) -> None:
    """Source rows of the days before the replay, a day a call."""
    for day in range(max(0, first_day), until_day):
        await replay.write_features(to_us(local_midnight(day)), to_us(local_midnight(day + 1)))
