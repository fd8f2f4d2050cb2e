"""``perennial predict``: ask a deployment for predictions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.cli.output import EnvOption, JsonOption, platform, show
from perennial.errors import InvalidArgument


def predict(
    deployment: Annotated[str, typer.Argument(help="The deployment")],
    values: Annotated[list[str] | None, typer.Argument(help="One row: column=value ...")] = None,
    file: Annotated[Path | None, typer.Option(help="Rows as JSON lines or one JSON list; - reads standard input")] = None,
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Ask for predictions: one row as column=value pairs, or many from a file.

    Numbers are told from texts by how they look; write '"12"' for a text of digits.
    """
    rows = _rows_of(file) if file else [dict(_pair(text) for text in values or ())]
    with platform(env_file) as found:
        answers = found.predict(deployment, rows)
    outputs = answers.table.to_rows()
    shown = [{"id": i, "version": v, **row} for i, v, row in zip(answers.ids, answers.versions, outputs, strict=True)]
    show(shown, as_json=as_json)


def _rows_of(file: Path) -> list[dict[str, Any]]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    try:
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise InvalidArgument(f"{file} is neither a JSON list nor JSON lines: {error}") from None


def _pair(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise InvalidArgument(f"{text!r} is not column=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
