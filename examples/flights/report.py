"""How are the results shown? A table on the console, a plot, and one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perennial.v1.common_pb2 import ChainEvent
from perennial.v1.serving_pb2 import ROLLOUT_STATE_PROMOTED, RolloutState
from rich.console import Console
from rich.table import Table

from examples.flights.data import ZONE, local_midnight
from examples.flights.results import Results


def show(found: Results, console: Console) -> None:
    """Prints the results."""
    table = Table(title="Mean absolute error of the airborne time, minutes")
    for name in (
        "month",
        "flights",
        "platform",
        "January's model left alone" if found.plan.train_from == 0 else "first model left alone",
    ):
        table.add_column(name, justify="left" if name == "month" else "right")
    for row in found.months:
        table.add_row(
            row["month"], f"{row['flights']:,}", f"{row['mae_platform']:.2f}", f"{row.get('mae_static', float('nan')):.2f}"
        )
    table.add_row("all", f"{found.acknowledged:,}", f"{found.mae_platform:.3f}", f"{found.mae_static:.3f}", style="bold")
    console.print(table)
    for line in sentences(found):
        console.print(line, highlight=False)
    if found.chain:
        console.print(_chain(found))


def sentences(found: Results) -> list[str]:
    """What the table does not say."""
    promoted = sum(1 for rollout in found.rollouts if rollout.state == ROLLOUT_STATE_PROMOTED)
    ledger = ", ".join(f"{name} {found.ledger.get(name, 0):,}" for name in ("counted", "late", "dead_lettered", "dropped"))
    equal = found.features_checked - found.features_different
    lines = [
        f"retrainings asked for {len(found.retrains)}, decisions {len(found.decisions)}",
        f"rollouts {len(found.rollouts)}: promoted {promoted}, declined {found.declined}",
        f"an even schedule with as many retrainings, each live at once: {found.mae_even:.3f}",
        f"ledger: acknowledged {found.acknowledged:,}; {ledger}",
        f"logged features equal to a point-in-time recomputation: {equal:,} of {found.features_checked:,} random predictions",
        f"second model (late by more than 15 minutes, not retrained): AUC {found.late_auc:.3f}",
    ]
    if found.plan.kilometres_from is not None:
        what = (
            f"{found.incidents[0].since.ToDatetime():%d %b %H:%M} UTC: {found.incidents[0].detail}"
            if found.incidents
            else "not seen"
        )
        lines.append(f"incident: {what}; mean error of days {found.plan.kilometres_from + 1}-211: {found.mae_after()}")
    lines.append(f"took {found.seconds:.0f} s")
    return lines


def _chain(found: Results) -> Table:
    table = Table("deployment time", "event", "from", "about", title="One chain, from the decayed block to the promotion")
    for event in told(found.chain):
        table.add_row(f"{event.time.ToDatetime():%Y-%m-%d %H:%M}", event.type, event.source, event.subject)
    return table


def told(chain: Sequence[ChainEvent]) -> list[ChainEvent]:
    """The chain without the hourly comparisons, except the last before something else happened."""
    following = [*(event.type for event in chain[1:]), ""]
    return [e for e, after in zip(chain, following, strict=True) if e.type != "VariantsCompared" or after != "VariantsCompared"]


def write(found: Results, output: Path) -> None:
    """Leaves ``report.png`` and ``report.html``."""
    output.mkdir(parents=True, exist_ok=True)
    plot(found, output / "report.png")
    import jinja2

    source = (Path(__file__).parent / "report.html.j2").read_text()
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
    image = base64.b64encode((output / "report.png").read_bytes()).decode()
    rollouts = [
        {"rollout": r, "state": RolloutState.Name(r.state).removeprefix("ROLLOUT_STATE_").lower()} for r in found.rollouts
    ]
    (output / "report.html").write_text(
        page.render(found=found, chain=told(found.chain), sentences=sentences(found), image=image, rollouts=rollouts)
    )


def write_json(found: Results, path: Path) -> None:
    """Writes the results for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found.as_json(), indent=1))


def plot(found: Results, path: Path) -> None:
    """Error by day and the promotions."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    days: Any = [local_midnight(int(day)).astimezone(ZONE).date() for day in found.daily["day"]]
    mean = (found.daily["error"] / found.daily["count"]).to_list()
    weekly: list[Any] = (
        found.daily["error"].rolling_sum(7, min_samples=1) / found.daily["count"].rolling_sum(7, min_samples=1)
    ).to_list()
    axes.plot(days, mean, color="#c8d3dd", linewidth=0.8, label="platform, a day")
    axes.plot(days, weekly, color="#1f5f8b", linewidth=1.8, label="platform, seven days")
    for place, rollout in enumerate(r for r in found.rollouts if r.state == ROLLOUT_STATE_PROMOTED):
        ended: Any = rollout.ended_at.ToDatetime().date()
        axes.axvline(ended, color="#d98f2b", linewidth=0.8, label="promotion" if place == 0 else None)
    axes.axhline(found.mae_static, color="#a33", linestyle="--", linewidth=1, label="first model left alone, mean")
    axes.set_ylabel("mean absolute error, minutes")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", ncols=4, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
