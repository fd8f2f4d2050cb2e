"""The OpenAPI document."""

import json
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from services.gateway.domain.route import Routes
from services.gateway.wire import catalogue
from services.gateway.wire.openapi import document
from tests.gateway.conftest import Rest


@pytest.fixture(scope="module")
def routes() -> Routes:
    """All routes."""
    return catalogue.routes()


@pytest.fixture(scope="module")
def spec(routes: Routes) -> dict[str, Any]:
    """The document."""
    found: dict[str, Any] = json.loads(document(routes))
    return found


async def test_the_gateway_serves_it_without_a_token(rest: Rest, spec: dict[str, Any]) -> None:
    """/openapi.json is the document."""
    async with httpx.AsyncClient(base_url=rest.address) as http:
        assert (await http.get("/openapi.json")).json() == spec


def test_it_is_openapi(spec: dict[str, Any]) -> None:
    """An independent validator accepts it as OpenAPI 3.1."""
    assert spec["openapi"] == "3.1.0"
    validate(spec)


def test_every_rpc_of_every_service_is_in_it(spec: dict[str, Any]) -> None:
    """One operation a route, named once, with who may call it."""
    rpcs = {
        f"{service.name}_{method.name}" for service in catalogue.service_descriptors().values() for method in service.methods
    }
    operations = [operation for path in spec["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert rpcs <= set(names)
    assert all(operation["x-roles"] for operation in operations)


def test_everything_is_described(spec: dict[str, Any]) -> None:
    """Every operation, parameter, schema and property has the words of its proto."""
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            assert all(parameter["description"] for parameter in operation["parameters"]), path
    for name, schema in spec["components"]["schemas"].items():
        assert schema["description"], name
        properties = schema.get("properties", {}) if name != "Problem" else {}
        assert all(inner["description"] for inner in properties.values()), name


def test_streams_say_so(spec: dict[str, Any]) -> None:
    """A client stream takes an array or lines; a server stream gives events or lines."""
    register = spec["paths"]["/api/v1/models"]["post"]["requestBody"]["content"]
    assert register["application/json"]["schema"]["type"] == "array"
    assert "application/x-ndjson" in register
    download = spec["paths"]["/api/v1/models/{name}/versions/{version}:download"]["get"]["responses"]["200"]["content"]
    assert set(download) == {"text/event-stream", "application/x-ndjson"}


def test_rows_are_lists(spec: dict[str, Any]) -> None:
    """A Frame may be written, and is answered, as a list of objects."""
    assert spec["components"]["schemas"]["Frame"]["anyOf"][0]["type"] == "array"


def test_queries_are_spelled_out(spec: dict[str, Any]) -> None:
    """A page's fields are parameters of their own; what the path has is not asked for twice."""
    names = [parameter["name"] for parameter in spec["paths"]["/api/v1/models/{name}/versions"]["get"]["parameters"]]
    assert names == ["name", "page.size", "page.token"]
