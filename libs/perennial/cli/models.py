"""``perennial models``: models, versions, aliases and their history."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.cli.output import EnvOption, JsonOption, LimitOption, platform, show, show_message, when, word

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Models, versions, aliases and their history")
Name = Annotated[str, typer.Argument(help="The model")]
Version = Annotated[str, typer.Argument(help="A number such as 1.0.3, or @alias")]


@app.command("list")
def list_models(limit: LimitOption = 50, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """Every model and where its aliases point."""
    with platform(env_file) as found:
        rows = [
            {"model": m.name, "latest": m.latest_version, "aliases": dict(m.aliases), "description": m.description}
            for m in islice(found.models.models(), limit)
        ]
    show(rows, as_json=as_json, empty="no models")


@app.command()
def versions(name: Name, limit: LimitOption = 50, as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """Versions of a model, newest first."""
    with platform(env_file) as found:
        rows = [_version(v) for v in islice(found.models.versions(name), limit)]
    show(rows, as_json=as_json)


@app.command("show")
def show_version(name: Name, version: Version = "@champion", as_json: JsonOption = False, env_file: EnvOption = None) -> None:
    """One version with everything known of it."""
    with platform(env_file) as found:
        show_message(found.models.get(name, version), as_json=as_json)


@app.command()
def at(
    name: Name,
    time: Annotated[datetime, typer.Argument(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="In UTC")],
    alias: Annotated[str, typer.Option(help="The alias asked for")] = "champion",
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Which version an alias named at a time: what was in production in March."""
    with platform(env_file) as found:
        answer = found.models.at(name, alias, time.replace(tzinfo=UTC))
    row = {**_version(answer.model_version), "since": when(answer.since), "until": when(answer.until)}
    show([row], as_json=as_json)


@app.command()
def alias(
    name: Name,
    alias_name: Annotated[str, typer.Argument(metavar="ALIAS", help="e.g. champion")],
    version: Annotated[str, typer.Argument(help="The version it shall name")],
    expected: Annotated[str, typer.Option(help="Only when it names this version now; * for any")] = "*",
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Point an alias at a version. A champion moved by hand is a rollback in serving, within seconds."""
    with platform(env_file) as found:
        show_message(found.models.set_alias(name, alias_name, version, expected=expected), as_json=as_json)


@app.command()
def promote(
    name: Name,
    version: Version,
    stage: Annotated[str, typer.Argument(help="development, staging, production or archived")],
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Move a version to a stage."""
    with platform(env_file) as found:
        show_message(found.models.promote(name, version, stage), as_json=as_json)


@app.command()
def register(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="A model package: a folder with manifest.json", exists=True, file_okay=False)],
    first_alias: Annotated[str, typer.Option(help="An alias to set to it when that does not exist yet")] = "",
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Register a model package as a new version."""
    with platform(env_file) as found:
        show_message(found.models.register(name, folder, first_alias=first_alias), as_json=as_json)


@app.command()
def download(
    name: Name,
    version: Version,
    to: Annotated[Path, typer.Argument(help="A folder, made when it is not there")],
    env_file: EnvOption = None,
) -> None:
    """Write the files of a version into a folder."""
    with platform(env_file) as found:
        print(found.models.download(name, version, to))


def _version(version: Any) -> dict[str, Any]:
    from perennial.v1.registry_pb2 import Stage

    return {
        "version": version.version,
        "stage": word(Stage, version.stage),
        "aliases": list(version.aliases),
        "algorithm": version.algorithm,
        "parent": version.lineage.parent,
        "metrics": dict(version.metrics),
        "created": when(version.created_at),
    }
