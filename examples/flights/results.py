"""What came of a replay? Figures a month, what the platform decided, its ledger, and one chain from drift to promotion."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from perennial.client import AsyncPerennial
from perennial.v1.common_pb2 import ChainEvent
from perennial.v1.events_pb2 import QualityIncident
from perennial.v1.monitor_pb2 import Decision
from perennial.v1.serving_pb2 import ROLLOUT_STATE_PROMOTED, Rollout

from examples.flights.data import ZONE, Year, local_midnight
from examples.flights.replay import ETA, LATE, Replay, as_rows
from examples.flights.setup import Plan
from examples.flights.views import REQUEST_NUMBERS, REQUEST_TEXTS, joins

SAMPLE = 1_000
LAST_INCIDENT_DAY = 211


@dataclass
class Results:
    """Everything the report shows."""

    plan: Plan
    daily: pl.DataFrame
    decisions: list[Decision]
    rollouts: list[Rollout]
    incidents: list[QualityIncident]
    ledger: dict[str, int]
    acknowledged: int
    chain: list[ChainEvent]
    late_auc: float
    mae_platform: float
    mae_static: float = float("nan")
    mae_even: float = float("nan")
    months: list[dict[str, Any]] = field(default_factory=list)
    features_checked: int = 0
    features_different: int = 0
    seconds: float = 0.0

    @property
    def retrains(self) -> list[Decision]:
        """The decisions that asked for a retraining and got one."""
        return [decision for decision in self.decisions if decision.requested]

    @property
    def declined(self) -> int:
        """Retrainings whose result was not taken: by the trainer's judgement or by the rollout."""
        refused = sum(1 for decision in self.retrains if decision.state == "declined")
        return refused + sum(
            1 for rollout in self.rollouts if rollout.ended_at.seconds and rollout.state != ROLLOUT_STATE_PROMOTED
        )

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        incident = self.incidents[0] if self.incidents else None
        return {
            "months": self.months,
            "mae_platform": round(self.mae_platform, 4),
            "mae_static": round(self.mae_static, 4),
            "mae_even_schedule": round(self.mae_even, 4),
            "retrains": [
                {"time": _iso(d.time), "trigger": d.trigger, "reason": d.reason, "state": d.state, "version": d.version}
                for d in self.retrains
            ],
            "rollouts": [
                {"started": _iso(r.started_at), "ended": _iso(r.ended_at), "challenger": r.challenger, "state": r.state,
                 "gain": round(r.gain, 4), "reason": r.reason}
                for r in self.rollouts
            ],
            "declined": self.declined,
            "acknowledged": self.acknowledged,
            **{name: self.ledger.get(name, 0) for name in ("counted", "late", "dead_lettered", "dropped")},
            "incident": {
                "detected_on": _iso(incident.since) if incident else None,
                "mae_after": self.mae_after() if self.plan.kilometres_from is not None else None,
            },
            "features_checked": self.features_checked,
            "features_different": self.features_different,
            "late_auc": round(self.late_auc, 4),
            "seconds": round(self.seconds, 1),
            "chain": [
                {"time": _iso(e.time), "type": e.type, "source": e.source, "subject": e.subject, "id": e.id,
                 "causation": e.causation_id, "correlation": e.correlation_id}
                for e in self.chain
            ],
        }  # fmt: skip

    def mae_after(self) -> float | None:
        """Mean absolute error of the days after the change of unit."""
        from_day = (self.plan.kilometres_from or 0) + 1
        days = self.daily.filter((pl.col("day") >= from_day) & (pl.col("day") <= LAST_INCIDENT_DAY))
        return round(mean_error(days), 4) if len(days) else None


def _iso(time: Any) -> str | None:
    return time.ToDatetime().isoformat() + "Z" if time.seconds else None


async def collect(platform: AsyncPerennial, replay: Replay, plan: Plan) -> Results:
    """Asks the platform what it did; errors are the replay's own count."""
    lines = (await platform.monitoring.ledger(ETA)).lines
    ledger = Counter[str]()
    for line in lines:
        if line.variant != "shadow":
            ledger.update(counted=line.counted, late=line.late, dead_lettered=line.dead_lettered, dropped=line.dropped)
    rollouts = sorted([r async for r in platform.deployments.rollouts(ETA)], key=lambda r: r.started_at.seconds)
    promoted = [r for r in rollouts if r.state == ROLLOUT_STATE_PROMOTED]
    daily = errors_by_day(replay)
    return Results(
        plan=plan,
        daily=daily,
        decisions=sorted([d async for d in platform.monitoring.decisions(ETA)], key=lambda d: d.time.seconds),
        rollouts=rollouts,
        incidents=sorted([i async for i in platform.monitoring.incidents(ETA)], key=lambda i: i.since.seconds),
        ledger=dict(ledger),
        acknowledged=replay.tallies[ETA].acknowledged,
        chain=await platform.models.chain(promoted[0].correlation_id) if promoted else [],
        late_auc=auc(replay),
        mae_platform=mean_error(daily),
    )


def mean_error(daily: pl.DataFrame) -> float:
    """Mean absolute error of a table of daily sums and counts."""
    return float(np.sum(daily["error"].to_numpy()) / np.sum(daily["count"].to_numpy()))


def errors_by_day(replay: Replay) -> pl.DataFrame:
    """Sum of absolute errors and count, by day of the year of the push-back in New York."""
    answered = replay.flights.with_columns(answer=pl.Series(replay.tallies[ETA].answers)).filter(
        pl.col("answer").is_not_nan() & pl.col("air_time").is_not_null()
    )
    error = (pl.col("answer") - pl.col("air_time")).abs()
    return answered.group_by(day=local_day("event_time_us")).agg(error=error.sum(), count=pl.len()).sort("day")


def local_day(column: str) -> pl.Expr:
    """Day of the year (0 = 1 January) in New York of a time in microseconds."""
    local = pl.from_epoch(column, time_unit="us").dt.replace_time_zone("UTC").dt.convert_time_zone(str(ZONE))
    return (local.dt.ordinal_day() - 1).cast(pl.Int64)


def auc(replay: Replay) -> float:
    """Area under the curve of the second model: how often a late flight was given a higher probability than one on time."""
    answers = replay.tallies[LATE].answers
    truth = replay.flights["is_late"].to_list()
    known = np.array(
        [place for place, value in enumerate(truth) if value is not None and not np.isnan(answers[place])], dtype=int
    )
    if not len(known):
        return float("nan")
    late = np.array([truth[place] == "late" for place in known])
    ranks = pl.Series(answers[known]).rank("average").to_numpy()
    positives = int(late.sum())
    return float((ranks[late].sum() - positives * (positives + 1) / 2) / max(1, positives * (len(known) - positives)))


def by_month(daily: pl.DataFrame, others: dict[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """A row a month: the platform's error and those it is held against."""
    months = [local_midnight(day).astimezone(ZONE).strftime("%Y-%m") for day in range(365)]
    rows: dict[str, dict[str, Any]] = {}
    for name, frame in {"mae_platform": daily, **others}.items():
        month = frame.with_columns(month=pl.col("day").replace_strict(dict(enumerate(months)), default="")).group_by("month")
        for found in month.agg(pl.col("error").sum(), pl.col("count").sum()).sort("month").iter_rows(named=True):
            row = rows.setdefault(found["month"], {"month": found["month"], "flights": found["count"]})
            row[name] = round(found["error"] / found["count"], 4)
    return [rows[month] for month in sorted(rows)]


async def check_features(
    platform: AsyncPerennial, year: Year, logged: pl.DataFrame, columns: Sequence[str], fetch: Any, seed: int = 7
) -> tuple[int, int]:
    """How many of a thousand random logged predictions were checked, and how many differ from the point-in-time join."""
    places = sorted(random.Random(seed).sample(range(len(logged)), min(SAMPLE, len(logged))))  # noqa: S311 a sample
    sample = logged[places].rename({"entity_key": "flight"}).sort("flight")
    flights = year.flights.join(sample.select("flight"), on="flight", how="semi").sort("flight")
    rows = as_rows(flights, (*REQUEST_NUMBERS, *REQUEST_TEXTS, "tailnum", "air_time"))
    table = await platform.features.training_set(
        rows,
        flights["event_time_us"].to_numpy(),
        joins(),
        labels=("air_time",),
        name="check",
        entity_keys=flights["flight"].to_list(),
    )
    joined = (await fetch(table)).sort("entity_key")
    different: NDArray[np.bool_] = np.zeros(len(sample), dtype=bool)
    for name in columns:
        different |= _differs(sample[name], joined[name])
    return len(sample), int(different.sum())


def _differs(logged: pl.Series, joined: pl.Series) -> NDArray[np.bool_]:
    if logged.dtype == pl.String:
        return np.asarray((logged.fill_null("") != joined.fill_null("")).to_numpy())
    ours = logged.cast(pl.Float32).fill_null(np.nan).to_numpy()
    theirs = joined.cast(pl.Float64).cast(pl.Float32).fill_null(np.nan).to_numpy()
    return np.asarray((ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs)))
