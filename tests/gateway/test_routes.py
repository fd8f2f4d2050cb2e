"""Paths and templates, without HTTP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from perennial.errors import InvalidArgument

from services.gateway.domain.accept import wanted
from services.gateway.domain.problem import STATUSES, Problem
from services.gateway.domain.route import Route, Routes
from services.gateway.domain.template import Template, parts_of
from services.gateway.wire import catalogue


def routes_of(*templates: str) -> Routes:
    """Routes without methods."""
    return Routes(Route("GET", Template.parsed(text), "", None, text) for text in templates)


def test_every_rpc_has_a_route_of_its_own() -> None:
    """All services' RPCs, each reachable under its own template: example values come back as they went in."""
    routes = catalogue.routes()
    named = {route.path for route in routes.all}
    services = catalogue.service_descriptors()
    assert named == {f"{s.full_name}/{m.name}" for s in services.values() for m in s.methods}
    for route in routes.all:
        path = route.template.text
        for name in route.template.variables:
            path = path.replace(f"{{{name}}}", f"v%20{name}")
        found, values, _ = routes.find(route.verb, path)
        assert found is route, path
        assert values == {name: f"v {name}" for name in route.template.variables}


def test_literal_paths_win() -> None:
    """A literal segment before a verb before a variable, whatever the order they are declared in."""
    routes = routes_of("/m/{x}", "/m/{x}:go", "/m/all", "/{y}/all", "/m/{x}/v/{y}", "/m/{x}:go/{y}/z", "/m/a:go")
    expected = {
        "/m/all": "/m/all", "/m/x": "/m/{x}", "/m/x:go": "/m/{x}:go", "/m/a:go": "/m/a:go", "/n/all": "/{y}/all",
        "/m/1/v/2": "/m/{x}/v/{y}", "/m/1:go/2/z": "/m/{x}:go/{y}/z",
    }  # fmt: skip
    for path, template in expected.items():
        route, _, _ = routes.find("GET", path)
        assert route is not None
        assert route.peer == template, path


def test_colons_in_values_are_values() -> None:
    """Only a known verb, as it is written, is one."""
    routes = routes_of("/j/{id}", "/j/{id}:watch")
    cases = {
        "/j/decision:7": ("/j/{id}", "decision:7"), "/j/decision:7:watch": ("/j/{id}:watch", "decision:7"),
        "/j/a%3Awatch": ("/j/{id}", "a:watch"), "/j/:watch": ("/j/{id}", ":watch"), "/j/a/": ("/j/{id}", "a"),
    }  # fmt: skip
    for path, (template, value) in cases.items():
        route, values, _ = routes.find("GET", path)
        assert route is not None
        assert (route.peer, values["id"]) == (template, value), path
    assert routes.find("GET", "/j/")[0] is None
    assert routes.find("GET", "/j//")[0] is None
    assert routes.find("POST", "/j/a")[2] == ["GET"]


def test_two_methods_cannot_share_a_route() -> None:
    """A conflict is found when the gateway starts, not when somebody calls."""
    with pytest.raises(ValueError, match="two methods"):
        routes_of("/m/{x}", "/m/{x}")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_value_survives_its_path(value: str) -> None:
    """What is percent-encoded into a segment comes out of the template."""
    from urllib.parse import quote

    template = Template.parsed("/a/{x}:go/b")
    assert template.match(parts_of(f"/a/{quote(value, safe='')}:go/b")) == {"x": value}


def test_bytes_that_are_no_text_are_refused() -> None:
    """A path is UTF-8."""
    with pytest.raises(InvalidArgument, match="UTF-8"):
        Template.parsed("/a/{x}").match(("a", "%ff"))


def test_problems_have_a_status_each() -> None:
    """Every canonical status has an HTTP one, and those to be tried again say when."""
    from grpc import StatusCode

    assert set(STATUSES) == {code.name for code in StatusCode}
    assert Problem("UNAVAILABLE", "x", "r").headers == {"retry-after": "1"}
    assert Problem("CANCELLED", "x", "r").body()["status"] == 499
    assert Problem("NOT_FOUND", "x", "r", 405).body()["title"] == "Method Not Allowed"


@pytest.mark.parametrize(
    ("header", "stream", "packed"),
    [
        ("", "text/event-stream", False),
        ("*/*", "text/event-stream", False),
        ("application/x-ndjson", "application/x-ndjson", False),
        ("text/html, application/jsonl;q=0.9", "application/x-ndjson", False),
        ("application/json; frames=packed", "text/event-stream", True),
        ("Application/X-NDJSON; frames=PACKED, text/event-stream", "application/x-ndjson", True),
    ],
)
def test_the_accept_header_chooses(header: str, stream: str, packed: bool) -> None:
    """The first form it names that there is."""
    found = wanted(header)
    assert (found.stream, found.packed) == (stream, packed)
