"""Which windows are complete, and do they differ from the reference? Reports, and the drift they begin or end."""

import math
import uuid
from typing import Any

from perennial import metrics
from perennial.errors import InvalidArgument
from perennial.runtime import telemetry
from perennial.stats.fold import Fold, merge_folds
from perennial.stats.report import ColumnComparison, DriftSettings, WindowReport, compare, persistent
from perennial.v1 import events_pb2 as pb

from services.monitor import wire
from services.monitor.closing.moment import Moment
from services.monitor.domain.policy import Wish
from services.monitor.store import panes
from services.monitor.store.panes import Variant

_LOG = telemetry.log(__name__)
EMPTY = WindowReport((), 0, 0.0, "none", ())


async def close(moment: Moment) -> None:
    """Close every window that the prediction watermark has passed."""
    if moment.prediction_us is None:
        return
    for row in await panes.open_windows(moment.tx, moment.name):
        variant = (moment.name, row["version"], row["variant"])
        start = row["start_us"]
        while start + moment.deployment.policy.window_us <= moment.prediction_us:
            end = await _end(moment, variant, start)
            if end is None:
                break
            await _closed(moment, variant, start, end)
            start = end


async def _end(moment: Moment, variant: Variant, start_us: int) -> int | None:
    """Where the window that begins there ends: long enough and with rows enough, or as long as it may be."""
    policy = moment.deployment.policy
    rows = await panes.between(moment.tx, variant, start_us, start_us + policy.max_window_us)
    wanted = moment.config.drift_window_size or policy.min_rows
    end = start_us + policy.window_us
    assert moment.prediction_us is not None
    while sum(count for us, count, _ in rows if us < end) < wanted and end < start_us + policy.max_window_us:
        end += policy.pane_us
    return end if end <= moment.prediction_us else None


async def _closed(moment: Moment, variant: Variant, start_us: int, end_us: int) -> None:
    window = await panes.lock_window(moment.tx, variant, start_us)
    if window is None:
        return
    held = await panes.between(moment.tx, variant, start_us, end_us)
    rows = sum(count for _, count, _ in held)
    drifting, event_id = window["drifting"], window["event_id"]
    if rows:
        report = _judged(moment, variant, held)
        values = {
            "report_id": uuid.uuid4().hex, "start_us": start_us, "end_us": end_us, "rows": rows, "late": window["late"],
            "score": report.score, "severity": report.severity, "columns": [_plain(c) for c in report.columns],
            "recommendations": list(report.recommendations),
        }  # fmt: skip
        await panes.add_report(moment.tx, variant, values)
        drifting, event_id = await _told(moment, variant, values, report, window)
        _shown(moment, variant, report)
        await _asked(moment, variant, end_us)
    await panes.move_window(moment.tx, variant, end_us, drifting=drifting, event_id=event_id)


def _judged(moment: Moment, variant: Variant, held: list[tuple[int, int, bytes]]) -> WindowReport:
    """The window against its version's reference; without one there is nothing to compare."""
    profile = moment.profile_of(variant[1])
    folds = [Fold.from_bytes(state) for _, _, state in held if state]
    folds = [fold for fold in folds if profile is not None and fold.profile == profile.checksum]
    if profile is None or not folds or not moment.config.drift_detection_enabled:
        return EMPTY
    config = moment.config
    tests = moment.deployment.policy.tests
    settings = DriftSettings(
        method=tests[0] if tests else config.drift_detection_method, threshold=config.drift_detection_threshold,
        min_rows=config.min_samples_for_monitoring, false_alarms=moment.deployment.policy.false_alarms,
    )  # fmt: skip
    try:
        return compare(profile, merge_folds(folds), settings=settings)
    except InvalidArgument as error:
        _LOG.error("a window cannot be compared", deployment=moment.name, version=variant[1], error=str(error))
        return EMPTY


async def _told(moment: Moment, variant: Variant, values: dict[str, Any], report: WindowReport, window: Any) -> tuple[bool, str]:
    """Say that drift began or is over; the id of the event that began it."""
    now = bool(report.drifted)
    if now:
        message = pb.DriftDetected(
            deployment=moment.name, version=variant[1], report_id=values["report_id"],
            window_start=wire.stamp(values["start_us"]),
            window_end=wire.stamp(values["end_us"]), columns=[wire.column_to(_plain(c)) for c in report.drifted],
            severity=report.severity, kind="data",
        )  # fmt: skip
        event = await moment.publish(
            message, values["end_us"], correlation_id=window["event_id"], causation_id=window["event_id"]
        )
        return True, window["event_id"] or event.id
    if window["drifting"]:
        resolved = pb.DriftResolved(
            deployment=moment.name, version=variant[1], report_id=values["report_id"], window_end=wire.stamp(values["end_us"])
        )
        await moment.publish(resolved, values["end_us"], correlation_id=window["event_id"], causation_id=window["event_id"])
    return False, ""


async def _asked(moment: Moment, variant: Variant, end_us: int) -> None:
    """Where no outcomes come, columns that drifted in two of three windows ask for a retraining."""
    policy = moment.deployment.policy
    if policy.outcomes or not policy.retrain or variant[1] != moment.deployment.champion:
        return
    reports = [_report(row) for row in await panes.last_reports(moment.tx, variant, 3)]
    columns = persistent(reports)
    if columns:
        wish = Wish("drift", f"{', '.join(columns)} drifted in two of three windows", figures={"columns": float(len(columns))})
        await moment.decide(end_us, [wish], always=False)


def _shown(moment: Moment, variant: Variant, report: WindowReport) -> None:
    telemetry.metric(metrics.WINDOWS_CLOSED).labels(moment.name).inc()
    if variant[2] != "champion":
        return
    telemetry.metric(metrics.FEATURES_DRIFTED).labels(moment.name).set(len(report.drifted))
    for column in report.columns:
        telemetry.metric(metrics.FEATURE_DRIFT).labels(moment.name, column.column, column.test).set(column.statistic)


def _plain(column: ColumnComparison) -> dict[str, Any]:
    """A comparison as JSON: NaN is null there."""
    values = {
        "column": column.column, "test": column.test, "statistic": column.statistic, "p_value": column.p_value,
        "threshold": column.threshold, "effect": column.effect, "importance": column.importance, "drifted": bool(column.drifted),
    }  # fmt: skip
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else (float(v) if isinstance(v, float) else v)
        for k, v in values.items()
    }


def _report(row: Any) -> WindowReport:
    plain: list[dict[str, Any]] = [{k: math.nan if v is None else v for k, v in column.items()} for column in row["columns"]]
    columns = tuple(ColumnComparison(**column) for column in plain)
    return WindowReport(columns, row["rows"], row["score"], row["severity"], tuple(row["recommendations"]))
