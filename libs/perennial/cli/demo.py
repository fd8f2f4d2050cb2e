"""``perennial demo``: a year of real flights through a platform of its own."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Twelve days in March instead of the year")] = False,
    incident: Annotated[bool, typer.Option("--incident", help="Days 150 to 212; a column changes its unit on day 200")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this file as well")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the platform running when the replay is over")] = False,
) -> None:
    """Train on January, replay the rest of 2013, and watch the platform keep the model alive.

    The demo has a platform of its own in .perennial/demo, made anew each time; any other is left alone. It leaves
    report.html and report.png there.
    """
    if fast and incident:
        raise typer.BadParameter("--fast and --incident are two replays; name one")
    from perennial.local.home import default_home
    from perennial.local.part import PartFailed
    from perennial.local.state import AlreadyRunning

    base = default_home()
    if not (base.parent / "examples" / "flights").is_dir():
        print("the demo runs from a checkout: it needs the folder examples/flights", file=sys.stderr)
        raise typer.Exit(1)
    sys.path.insert(0, str(base.parent))
    from examples.flights import setup

    plan = setup.FAST if fast else setup.INCIDENT if incident else setup.YEAR
    console = Console()
    try:
        asyncio.run(_demo(base / "demo", plan, json_file.absolute() if json_file else None, console, keep=keep))
    except (AlreadyRunning, PartFailed) as error:
        print(f"the demo cannot start: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("stopped; everything it started has ended")
        raise typer.Exit(130) from None


async def _demo(home: Path, plan: Any, json_file: Path | None, console: Console, *, keep: bool) -> None:
    from perennial.local.supervisor import Supervisor

    began = time.monotonic()
    clear(home)
    with console.status("starting Kafka, PostgreSQL, Valkey, S3 and the services"):
        supervisor = Supervisor(home, namespace="demo")
        await supervisor.start()
    try:
        console.print(f"the platform answers after {time.monotonic() - began:.1f} s", highlight=False)
        from examples.flights.demo import run

        await run(plan, env_file=home / "env", output=home, json_file=json_file, console=console)
        if keep:
            console.print("the platform keeps running until Ctrl-C", highlight=False)
            await asyncio.Event().wait()
    finally:
        with console.status("stopping"):
            await supervisor.stop()


def clear(home: Path) -> None:
    """Removes what an earlier demo left, unless that still runs: the supervisor says so then."""
    from perennial.local.home import Home
    from perennial.local.state import Lock

    if not home.is_dir():
        return
    lock = Lock(Home.at(home))
    lock.take()
    for path in home.iterdir():
        if path.is_dir() and path.name not in {"run", "logs"}:
            shutil.rmtree(path, ignore_errors=True)
    lock.release()
