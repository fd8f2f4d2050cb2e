"""Which commands are there? The table names each; its module is imported when it is called, so ``--help`` stays fast."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from perennial.errors import PerennialError

# name -> (module, function or typer app, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("perennial.cli.stack", "up", "Start servers and services, and keep them running"),
    "down": ("perennial.cli.stack", "down", "Stop what `up` started"),
    "status": ("perennial.cli.stack", "status", "What runs, where, since when"),
    "logs": ("perennial.cli.stack", "logs", "Print a part's log, or all of them"),
    "demo": ("perennial.cli.demo", "demo", "Replay a year of real flights through a platform of its own"),
    "models": ("perennial.cli.models", "app", "Models, versions, aliases and their history"),
    "deployments": ("perennial.cli.deployments", "app", "Deployments and their rollouts"),
    "predict": ("perennial.cli.predict", "predict", "Ask a deployment for predictions"),
    "drift": ("perennial.cli.monitoring", "drift", "Drift, performance and incidents of a deployment"),
    "events": ("perennial.cli.events", "events", "Events of the platform, or one whole causal chain"),
    "monitor": ("perennial.cli.monitoring", "app", "The ledger, decisions and performance"),
    "dlq": ("perennial.cli.dlq", "app", "Dead letters: list, show, replay"),
    "audit": ("perennial.cli.audit", "app", "Verify the audit chains"),
}


class _Lazy(TyperGroup):
    """A group that imports a command's module when the command is called. (Typer brings a click of its own.)"""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 click's signature
        """The table's names, in its order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 click's signature
        """The command, imported now; None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, name, line = COMMANDS[cmd_name]
        found: Any = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command()(found)
            found = single
        made = typer.main.get_command(found)
        made.name, made.short_help = cmd_name, line
        return made

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 click's signature
        """The table's lines: no module is imported for them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


app = typer.Typer(
    cls=_Lazy, add_completion=False, rich_markup_mode=None, no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"perennial {version('perennial-mlops')}")
        raise typer.Exit


@app.callback()
def perennial(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Keep machine-learning models alive after they ship."""


def main() -> None:
    """The entry point: errors of the platform are one line on standard error and status 1."""
    try:
        app()
    except PerennialError as error:
        print(f"{error.status}: {error.message}", file=sys.stderr)
        sys.exit(1)
