"""``perennial up | down | status | logs``: the platform on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

HomeOption = Annotated[Path | None, typer.Option("--home", help="Where data, logs and secrets are kept  [default: .perennial]")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]
_COLOURS = {"running": "green", "failed": "red", "restarting": "yellow", "starting": "cyan", "stopping": "cyan"}
_DOWN_DEADLINE_S = 120.0


def home_of(home: Path | None) -> Path:
    """The home named, or ``.perennial`` in the checkout."""
    from perennial.local.home import default_home

    return home.absolute() if home else default_home()


def up(
    home: HomeOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything answers")] = False,
    only: Annotated[str, typer.Option("--only", help="'stack' for the servers alone, or a comma list of services")] = "",
    namespace: Annotated[
        str, typer.Option(envvar="PERENNIAL_NAMESPACE", help="Prefix of topics, schemas, buckets and keys")
    ] = "",
) -> None:
    """Start Kafka, PostgreSQL, Valkey, S3 and the services, and keep them running until Ctrl-C.

    Any server is left out when the environment names another: PERENNIAL_KAFKA__BOOTSTRAP, DATABASE_URL, REDIS_URL,
    S3_ENDPOINT. Addresses and credentials are written to <home>/env.
    """
    place = home_of(home)
    if detach:
        _detached(place, only=only, namespace=namespace)
        return
    from perennial.local.part import PartFailed
    from perennial.local.state import AlreadyRunning
    from perennial.local.supervisor import Supervisor

    services: bool | list[str] = [name for name in only.split(",") if name != "stack"] if only else True
    try:
        supervisor = Supervisor(place, services=services, namespace=namespace)
        asyncio.run(_shown(supervisor))
    except AlreadyRunning as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    except (PartFailed, OSError, TimeoutError) as error:
        print(f"the platform could not start.\n{error or type(error).__name__}", file=sys.stderr)
        raise typer.Exit(1) from None


async def _shown(supervisor: Any) -> None:
    """Run a supervisor under one live table, or plain lines when nobody looks."""
    from rich.console import Console
    from rich.live import Live

    began = time.monotonic()
    console = Console()
    if not console.is_terminal:
        lines = _Lines()
        supervisor.state.on_change = lines.show
        await supervisor.run(when_up=lambda made: print(_ready_line(made, began), flush=True))
        return
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        supervisor.state.on_change = lambda state: live.update(_table([vars(status) for status in state.parts.values()]))
        await supervisor.run(when_up=lambda made: console.print(_ready_line(made, began), highlight=False, soft_wrap=True))


def _ready_line(supervisor: Any, began: float) -> str:
    parts = supervisor.state.parts.values()
    late = [status.name for status in parts if status.state != "running"]
    what = f"up, but not yet: {', '.join(late)}" if late else "up"
    gateway = supervisor.state.parts.get("gateway")
    where = f"; gateway {gateway.address}" if gateway and gateway.address else ""
    return f"{what} after {time.monotonic() - began:.1f} s{where}; settings in {supervisor.home.env}"


class _Lines:
    """One line a change, for logs and pipes."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def show(self, state: Any) -> None:
        """Print what changed."""
        for status in state.parts.values():
            line = f"{status.name:<10} {status.state:<10} {status.detail or status.address}".rstrip()
            if status.state != "waiting" and self._told.get(status.name) != line:
                self._told[status.name] = line
                print(line, flush=True)


def _table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    memory = any("memory" in row for row in rows)
    table = Table("part", "state", "address", "pid", "restarts", "since", *(["memory"] if memory else []), "detail")
    for row in rows:
        colour = _COLOURS.get(row["state"], "white")
        since = time.strftime("%H:%M:%S", time.localtime(row["since"])) if row["since"] else ""
        size = [row.get("memory", "")] if memory else []
        cells = (row["address"], row["pid"] or "", row["restarts"] or "", since, *size, row["detail"])
        table.add_row(row["name"], f"[{colour}]{row['state']}[/]", *(str(cell) for cell in cells))
    return table


def _detached(place: Path, *, only: str, namespace: str) -> None:
    """Start a supervisor that outlives this command; tell what it tells until everything answers."""
    from perennial.local.process import tail
    from perennial.local.state import read, supervisor_of

    if (pid := supervisor_of(place)) is not None:
        print(
            f"a platform is running in {place} already (process {pid}); `perennial down --home {place}` ends it", file=sys.stderr
        )
        raise typer.Exit(1)
    command = [sys.executable, "-m", "perennial.cli", "up", "--home", str(place), "--only", only, "--namespace", namespace]
    log = place / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 ourselves
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    while (state := read(place)) is None or state["phase"] != "up" or state["pid"] != child.pid:
        if child.poll() is not None:
            print(tail(log, 60), file=sys.stderr)
            raise typer.Exit(1)
        time.sleep(0.05)
    while " after " not in (last := tail(log, 1)):
        time.sleep(0.05)
    print(last)
    if any(part["state"] != "running" for part in state["parts"]):
        raise typer.Exit(1)


def down(home: HomeOption = None) -> None:
    """Stop the platform: services first, then the servers, each waited for."""
    from perennial.local.process import clear_leftovers
    from perennial.local.state import supervisor_of

    place = home_of(home)
    pid = supervisor_of(place)
    if pid is None:
        ended = clear_leftovers(place / "run") if (place / "run").is_dir() else []
        print(f"nothing is running in {place}" + (f"; ended what was left: {', '.join(ended)}" if ended else ""))
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_DEADLINE_S
    while supervisor_of(place) is not None:
        if time.monotonic() > deadline:
            print(f"process {pid} has not stopped within {_DOWN_DEADLINE_S:.0f} s", file=sys.stderr)
            raise typer.Exit(1)
        time.sleep(0.05)
    print("stopped")


def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """What runs, where, since when, and how much memory it takes. Status 1 when nothing runs."""
    from perennial.local.state import read

    place = home_of(home)
    state = read(place)
    rows = state["parts"] if state else []
    for row in rows:
        row["memory_mb"] = _memory_mb(row["pid"])
    if as_json:
        print(json.dumps({"home": str(place), "running": state is not None, **(state or {})}))
    elif state:
        from rich.console import Console

        for row in rows:
            row["memory"] = f"{row['memory_mb']} MB" if row["memory_mb"] else ""
        Console().print(_table(rows))
        total = sum(row["memory_mb"] for row in rows)
        print(f"{state['phase']}, supervisor {state['pid']}, {total} MB in all, settings in {state['env']}")
    else:
        print(f"nothing is running in {place}")
    if state is None:
        raise typer.Exit(1)


def _memory_mb(pid: int) -> int:
    """Memory of a process and its children, each page counted once (PSS), in MB; 0 when it is gone."""
    import psutil

    total = 0
    try:
        process = psutil.Process(pid) if pid else None
        family = [process, *process.children(recursive=True)] if process else []
    except psutil.Error:
        return 0
    for member in family:
        try:
            total += member.memory_full_info().pss
        except (psutil.Error, AttributeError):
            continue
    return round(total / 1e6)


def logs(
    part: Annotated[str | None, typer.Argument(help="A service or server; all of them when none is named")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines")] = 50,
    home: HomeOption = None,
) -> None:
    """Print the last lines of a part's log."""
    folder = home_of(home) / "logs"
    files = sorted(folder.glob("*.log")) if part is None else [folder / f"{part}.log"]
    if not files or not all(path.is_file() for path in files):
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none"
        print(f"no log of {part or 'anything'}; there are: {known}", file=sys.stderr)
        raise typer.Exit(1)
    command = ["tail", "-n", str(lines), *(["-F"] if follow else []), *map(str, files)]
    try:
        code = subprocess.call(command)  # noqa: S603 the file names are ours
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)
