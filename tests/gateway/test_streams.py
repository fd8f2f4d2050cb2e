"""Streams over HTTP, both ways."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

from perennial.package import ModelPackage

from tests.gateway.conftest import Rest
from tests.gateway.test_rest import is_problem, register
from tests.gateway.uploads import messages_of
from tests.registry.packages import package

LINES = {"content-type": "application/x-ndjson"}


def joined(pieces: list[dict[str, Any]]) -> dict[str, bytes]:
    """Files by name from the pieces of a download."""
    found: dict[str, bytes] = {}
    for piece in pieces:
        found[piece["file"]] = found.get(piece["file"], b"") + base64.b64decode(piece["chunk"])
    return found


def contents(made: ModelPackage) -> dict[str, bytes]:
    """Files by name as they were made."""
    return {entry.name: made.data(entry.name) for entry in made.entries}


async def test_an_upload_comes_line_by_line_and_goes_as_events(rest: Rest, model: str) -> None:
    """NDJSON in, server-sent events out: the same bytes, and an end event."""
    made = package(files={"notes.txt": b"n" * 3_000_000})

    async def lines() -> AsyncIterator[bytes]:
        for message in messages_of(model, made, piece=500_000):
            yield json.dumps(message).encode() + b"\n"
            await asyncio.sleep(0)

    async with rest.client() as http:
        registered = await http.post("/api/v1/models", content=lines(), headers=LINES)
        assert registered.status_code == 200, registered.text
        events: list[tuple[str, str]] = []
        async with http.stream("GET", f"/api/v1/models/{model}/versions/1.0.0:download") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            name = ""
            async for line in answer.aiter_lines():
                name = line.removeprefix("event: ") if line.startswith("event: ") else name
                if line.startswith("data: "):
                    events.append((name, line.removeprefix("data: ")))
                    name = ""
    assert events[-1] == ("end", "{}")
    assert joined([json.loads(data) for name, data in events if not name]) == contents(made)


async def test_a_download_comes_as_lines_when_asked(rest: Rest, model: str) -> None:
    """Accept: application/x-ndjson gives a JSON text a line; files are chosen by repeated parameters."""
    made = package(files={"notes.txt": b"abc"})
    async with rest.client() as http:
        await register(http, model, made)
        path, accept = f"/api/v1/models/{model}/versions/1.0.0:download", {"accept": "application/x-ndjson"}
        answer = await http.get(path, headers=accept, params={"files": ["notes.txt", "model.onnx"]})
    found = joined([json.loads(line) for line in answer.text.splitlines()])
    assert found == {name: data for name, data in contents(made).items() if name != "manifest.json"}


async def test_a_stream_that_fails_at_once_has_its_status(rest: Rest, model: str) -> None:
    """NOT_FOUND before the first answer is a 404 problem, not an empty stream."""
    async with rest.client() as http:
        is_problem(await http.get(f"/api/v1/models/{model}/versions/1.0.0:download"), 404, "NOT_FOUND")


async def test_a_stream_that_fails_later_says_so(rest: Rest, model: str) -> None:
    """A damaged second file: the first has left, then an error event (or line) with the problem."""
    async with rest.client() as http:
        version = (await register(http, model, package(files={"notes.txt": model.encode()}))).json()["modelVersion"]
        await rest.registry.runtime.objects.put(f"{version['artifactPrefix']}/notes.txt", b"other")
        path = f"/api/v1/models/{model}/versions/1.0.0:download"
        events = (await http.get(path)).text.strip().split("\n\n")
        lines = (await http.get(path, headers={"accept": "application/x-ndjson"})).text.splitlines()
    name, data = events[-1].split("\n")
    assert name == "event: error"
    for problem in (json.loads(data.removeprefix("data: ")), json.loads(lines[-1])["error"]):
        assert (problem["code"], problem["status"]) == ("DATA_LOSS", 500)
        assert "notes.txt" in problem["detail"]


async def test_a_bad_upload_is_told(rest: Rest, model: str) -> None:
    """No array, a line that is no JSON, one that is no message, one too long, a digest that is wrong."""
    made = package()
    good = [json.dumps(message).encode() for message in messages_of(model, made)]
    async with rest.client() as http:
        is_problem(await http.post("/api/v1/models", json={"header": {}}), 400, "INVALID_ARGUMENT")
        for bad in (b"{", b"[]", b'{"colour": 1}', b'{"chunk": "' + b"A" * 2**21 + b'"}'):
            answer = await http.post("/api/v1/models", content=good[0] + b"\n" + bad, headers=LINES)
            is_problem(answer, 400, "INVALID_ARGUMENT")
        first, *rest_of_it = messages_of(model, made)
        first["header"]["files"][0]["sha256"] = "0" * 64
        detail = is_problem(await http.post("/api/v1/models", json=[first, *rest_of_it]), 500, "DATA_LOSS")
        assert "manifest.json" in detail


async def test_a_reader_that_goes_away_ends_the_call(rest: Rest, model: str) -> None:
    """Leaving in the middle of a download cancels it upstream, and the gateway goes on."""
    async with rest.client() as http:
        await register(http, model, package(files={"notes.txt": b"n" * 600_000}))
        async with http.stream("GET", f"/api/v1/models/{model}/versions/1.0.0:download") as answer:
            await anext(answer.aiter_bytes())
        assert (await http.get(f"/api/v1/models/{model}")).status_code == 200


async def test_many_at_once(rest: Rest, model: str) -> None:
    """Fifty readers at the same time get their own answers."""
    async with rest.client() as http:
        await asyncio.gather(*(http.put(f"/api/v1/models/{model}-{n}", json={"description": str(n)}) for n in range(50)))
        answers = await asyncio.gather(*(http.get(f"/api/v1/models/{model}-{n}") for n in range(50)))
    assert [answer.json()["model"]["description"] for answer in answers] == [str(n) for n in range(50)]


