"""``perennial drift`` and ``perennial monitor``: what the monitor knows of a deployment."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from perennial.cli.output import EnvOption, JsonOption, LimitOption, platform, show, show_message, when

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The ledger, decisions, performance and incidents")
Name = Annotated[str, typer.Argument(help="The deployment")]


def drift(name: Name, limit: LimitOption = 10, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """Drift reports of a deployment, newest first: each closed window against the reference."""
    with platform(env_file) as found:
        rows = [_report(report) for report in islice(found.monitoring.drift(name), limit)]
    columns = ("window", "version", "rows", "late", "score", "severity", "drifted")
    show(rows, as_json=as_json, columns=columns, empty=f"no window of {name} has closed yet")


@app.command()
def ledger(name: Name, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """What was counted, was late, went to the dead letter or was dropped, a line a version and variant."""
    with platform(env_file) as found:
        answer = found.monitoring.ledger(name)
    names = ("counted", "late", "dead_lettered", "dropped", "missing", "repeats", "outcomes", "shadow")
    rows = [{"version": i.version, "variant": i.variant, **{n: getattr(i, n) for n in names}} for i in answer.lines]
    show(rows, as_json=as_json, empty=f"nothing was predicted by {name} yet")
    if not as_json and answer.unmatched_outcomes:
        print(f"outcomes that match no prediction: {answer.unmatched_outcomes}")


@app.command()
def decisions(
    name: Name,
    requested: Annotated[bool, typer.Option("--requested", help="Only those that asked for a retraining")] = False,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Decisions of the retraining policy, the no included, newest first."""
    with platform(env_file) as found:
        rows = [_decision(d) for d in islice(found.monitoring.decisions(name, requested_only=requested), limit)]
    columns = ("time", "requested", "trigger", "reason", "state", "version")
    show(rows, as_json=as_json, columns=columns, empty=f"no decision on {name} yet")


@app.command()
def performance(name: Name, limit: LimitOption = 14, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """Performance blocks, newest first."""
    with platform(env_file) as found:
        rows = [
            {"start": when(b.start), "version": b.version, "variant": b.variant, "outcomes": b.count,
             "closed": b.closed, "chart": b.chart, "figures": dict(b.figures)}
            for b in islice(found.monitoring.performance(name), limit)
        ]  # fmt: skip
    show(rows, as_json=as_json, empty=f"no outcome of {name} is known yet")


@app.command()
def incidents(name: Name, limit: LimitOption = 20, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """Changes of unit, schema or quality, newest first."""
    with platform(env_file) as found:
        rows = [
            {"since": when(i.since), "column": i.column, "kind": i.kind, "factor": i.factor, "state": i.state, "detail": i.detail}
            for i in islice(found.monitoring.incidents(name), limit)
        ]
    show(rows, as_json=as_json, empty=f"no incident of {name}")


@app.command()
def retrain(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; kept with the decision")],
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Ask for a retraining by hand."""
    with platform(env_file) as found:
        show_message(found.monitoring.retrain(name, reason), as_json=as_json)


def _report(report: Any) -> dict[str, Any]:
    return {
        "window": f"{when(report.start)} - {when(report.end)}",
        "version": report.version,
        "rows": report.rows,
        "late": report.late,
        "score": report.score,
        "severity": report.severity,
        "drifted": [column.column for column in report.columns if column.drifted],
        "columns": [
            {"column": c.column, "test": c.test, "statistic": c.statistic, "threshold": c.threshold, "effect": c.effect,
             "drifted": c.drifted}
            for c in report.columns
        ],
        "recommendations": list(report.recommendations),
    }  # fmt: skip


def _decision(decision: Any) -> dict[str, Any]:
    return {
        "id": decision.decision_id,
        "time": when(decision.time),
        "requested": decision.requested,
        "trigger": decision.trigger,
        "reason": decision.reason,
        "state": decision.state,
        "version": decision.version,
        "figures": dict(decision.figures),
    }
