"""``perennial dlq``: events that nobody could take, with their bytes and the reason."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from perennial.cli.output import EnvOption, JsonOption, show
from perennial.errors import NotFound

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Dead letters: list, show, replay")
TopicArgument = Annotated[str, typer.Argument(help="A topic, e.g. perennial.predictions")]
T = TypeVar("T")


@app.command("list")
def list_letters(topic: Annotated[str, typer.Argument(help="A topic; all when none is named")] = "", as_json: JsonOption = False,
                 env_file: EnvOption = None) -> None:  # fmt: skip
    """Dead letters with where they came from and why."""
    from perennial.runtime import deadletters

    async def work(bus: Any) -> list[Any]:
        found = [await deadletters.letters(bus, one) for one in _topics(topic)]
        return [letter for letters in found for letter in letters]

    show([_row(letter) for letter in _with_bus(env_file, work)], as_json=as_json, empty="no dead letters")


@app.command("show")
def show_letter(
    topic: TopicArgument,
    position: Annotated[str, typer.Argument(help="partition/offset, as `list` prints it")],
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """One dead letter with its headers and bytes (hexadecimal)."""
    from perennial.runtime import deadletters

    partition, offset = _position(position)
    letter = _with_bus(env_file, lambda bus: deadletters.show(bus, _topics(topic)[0], partition, offset))
    headers = {name: value.decode("utf-8", "replace") for name, value in letter.headers.items()}
    show([{**_row(letter), "headers": headers, "value": letter.value.hex()}], as_json=as_json)


@app.command()
def replay(
    topic: TopicArgument,
    position: Annotated[str, typer.Argument(help="partition/offset; all not yet replayed when none is named")] = "",
    as_json: JsonOption = False,
    env_file: EnvOption = None,
) -> None:
    """Send dead letters to their topic again; readers take each only once."""
    from perennial.runtime import deadletters

    partition, offset = _position(position) if position else (None, None)
    sent = _with_bus(env_file, lambda bus: deadletters.replay(bus, _topics(topic)[0], partition=partition, offset=offset))
    show([{"topic": topic, "replayed": sent}], as_json=as_json)


def _topics(name: str) -> list[Any]:
    from perennial import topics

    found = [topic for topic in topics.TOPICS if not topic.name.endswith(".dlq") and name in ("", topic.name)]
    if not found:
        raise NotFound(f"no topic {name!r}; there are {', '.join(t.name for t in topics.TOPICS if not t.name.endswith('.dlq'))}")
    return found


def _position(text: str) -> tuple[int, int]:
    partition, sign, offset = text.partition("/")
    if not (sign and partition.isdigit() and offset.isdigit()):
        raise typer.BadParameter(f"{text!r} is not partition/offset")
    return int(partition), int(offset)


def _with_bus(env_file: Path | None, work: Callable[[Any], Awaitable[T]]) -> T:
    from perennial.client.connection import find_env_file
    from perennial.runtime.bus import Bus
    from perennial.runtime.config import ServiceConfig

    if place := env_file or find_env_file():
        os.environ["PERENNIAL_ENV_FILE"] = str(place)

    async def run() -> T:
        bus = Bus(ServiceConfig())
        try:
            return await work(bus)
        finally:
            await bus.close()

    return asyncio.run(run())


def _row(letter: Any) -> dict[str, Any]:
    return {
        "topic": letter.topic.name,
        "position": f"{letter.partition}/{letter.offset}",
        "reason": letter.reason,
        "attempts": letter.attempts,
        "read at": "/".join(map(str, letter.origin)),
        "bytes": len(letter.value),
    }
