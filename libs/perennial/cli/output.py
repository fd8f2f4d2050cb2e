"""How is an answer printed? A table for people, JSON for programs; the same rows for both."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 200
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, a document a command")]
EnvOption = Annotated[
    Path | None, typer.Option("--env-file", help="Addresses and secrets of a platform  [default: .perennial/env, here or above]")
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="Print at most so many rows")]


@contextmanager
def platform(env_file: Path | None) -> Iterator[Any]:
    """The platform this shell speaks to."""
    from perennial.client import Perennial

    with Perennial(env_file=env_file) as found:
        yield found


def show(rows: Iterable[Mapping[str, Any]], *, as_json: bool, columns: Sequence[str] = (), empty: str = "none") -> None:
    """Prints rows; a table takes ``columns`` (default: those of the first row), JSON takes everything."""
    kept = [dict(row) for row in rows]
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(kept, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
        return
    if not kept:
        print(empty)
        return
    names = list(columns or kept[0])
    table = Table(*names)
    for row in kept:
        table.add_row(*(_cell(row.get(name)) for name in names))
    console().print(table)


def show_message(message: Any, *, as_json: bool) -> None:
    """Prints one message: its fields as a table of two columns, or as JSON."""
    from google.protobuf.json_format import MessageToDict

    found = MessageToDict(message, preserving_proto_field_name=True)
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
        return
    table = Table(show_header=False)
    for name, value in found.items():
        table.add_row(name, _cell(value))
    console().print(table)


def console() -> Console:
    """The terminal; wide enough for every column where nobody's window limits it."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def when(time: Any) -> str:
    """A timestamp of a message as text; empty when it is not set."""
    return f"{datetime.fromtimestamp(time.seconds, UTC):%Y-%m-%d %H:%M:%S}" if time.seconds else ""


def word(kind: Any, value: int) -> str:
    """The last words of an enum's name: PROMOTED of ROLLOUT_STATE_PROMOTED is 'promoted'."""
    prefix = kind.Name(0).removesuffix("UNSPECIFIED")
    return str(kind.Name(value)).removeprefix(prefix).lower().replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_cell(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return "" if value is None else str(value)
