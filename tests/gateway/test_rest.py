"""REST over real HTTP: routes, fields, errors, headers."""

from typing import Any

import httpx
import pytest
from perennial.package import ModelPackage

from tests.gateway.conftest import Rest
from tests.gateway.uploads import messages_of
from tests.registry.packages import package


async def register(http: httpx.AsyncClient, model: str, made: ModelPackage | None = None, **header: Any) -> httpx.Response:
    """Register a small version over REST."""
    return await http.post("/api/v1/models", json=list(messages_of(model, made or package(), **header)))


def is_problem(response: httpx.Response, status: int, code: str) -> str:
    """The detail of a problem document, which the response must be."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    found = response.json()
    assert (response.status_code, found["status"], found["code"]) == (status, status, code), found
    assert found["requestId"] == response.headers["x-request-id"]
    return str(found["detail"])


async def test_a_model_is_made_and_read(rest: Rest, model: str) -> None:
    """PUT makes it, GET reads it, names are lowerCamelCase."""
    async with rest.client() as http:
        made = await http.put(f"/api/v1/models/{model}", json={"description": "eta", "approvalRequired": True})
        assert made.status_code == 200, made.text
        read = await http.get(f"/api/v1/models/{model}")
    assert read.json() == made.json()
    found = read.json()["model"]
    assert (found["name"], found["description"], found["approvalRequired"], found["aliases"]) == (model, "eta", True, {})


async def test_the_names_of_the_protos_are_accepted(rest: Rest, model: str) -> None:
    """approval_required and approvalRequired are the same field."""
    async with rest.client() as http:
        made = await http.put(f"/api/v1/models/{model}", json={"approval_required": True})
    assert made.json()["model"]["approvalRequired"] is True


async def test_a_version_goes_through_its_life(rest: Rest, model: str) -> None:
    """Register, find, promote by verb, point an alias, ask what was, compare: every shape of route. # REG-20"""
    async with rest.client("service:trainer") as http:
        first = await register(http, model, first_alias="champion")
        assert first.status_code == 200, first.text
        second = await register(http, model, package(algorithm="ridge"), tags={"team": model})
        assert second.status_code == 200, second.text
    assert (first.json()["modelVersion"]["version"], second.json()["modelVersion"]["version"]) == ("1.0.0", "1.1.0")
    async with rest.client() as http:
        base = f"/api/v1/models/{model}"
        staged = await http.post(f"{base}/versions/1.1.0:promote", json={"stage": "STAGE_STAGING"})
        assert staged.json().get("modelVersion", {}).get("stage") == "STAGE_STAGING", staged.text
        moved = await http.put(f"{base}/aliases/champion", json={"version": "1.1.0", "expected": "1.0.0"})
        assert moved.json()["model"]["aliases"] == {"champion": "1.1.0"}
        held = await http.get(f"{base}/aliases/champion:at")
        assert held.json()["modelVersion"]["version"] == "1.1.0"
        assert held.status_code == 200
        earlier = await http.get(f"{base}/aliases/champion:at", params={"time": first.json()["modelVersion"]["createdAt"]})
        assert earlier.status_code == 200, earlier.text
        assert earlier.json()["modelVersion"]["version"] == "1.0.0"
        by_alias = await http.get(f"{base}/versions/@champion")
        assert by_alias.json()["modelVersion"]["version"] == "1.1.0"
        compared = await http.get(f"{base}/versions/1.0.0:compare/@champion")
        assert compared.json()["changes"]["algorithm"] == "lightgbm -> ridge"
        found = await http.get("/api/v1/model-versions:search", params={"tags": f"team={model}", "stage": "STAGE_PRODUCTION"})
        assert [v["version"] for v in found.json()["modelVersions"]] == ["1.1.0"]
        history = await http.get(f"{base}/versions/1.1.0/stage-history", params={"page.size": 1})
        assert [c["toStage"] for c in history.json()["changes"]] == ["STAGE_PRODUCTION"]
        more = await http.get(f"{base}/versions/1.1.0/stage-history", params={"page.token": history.json()["nextToken"]})
        assert [c["toStage"] for c in more.json()["changes"]] == ["STAGE_STAGING"]


async def test_unknown_routes_and_verbs_are_problems(rest: Rest) -> None:
    """404 points at the document; 405 names the verbs there are."""
    async with rest.client() as http:
        assert "/openapi.json" in is_problem(await http.get("/api/v1/nothing"), 404, "NOT_FOUND")
        assert "/openapi.json" in is_problem(await http.get("/"), 404, "NOT_FOUND")
        wrong = await http.delete("/api/v1/models/x")
        assert "GET, PUT" in is_problem(wrong, 405, "UNIMPLEMENTED")
        assert wrong.headers["allow"] == "GET, PUT"
        is_problem(await http.post("/api/v1/models/x/versions/1.0.0:fly", json={}), 405, "UNIMPLEMENTED")


async def test_failures_keep_their_status(rest: Rest, model: str) -> None:
    """NOT_FOUND 404, INVALID_ARGUMENT 400, ABORTED 409, FAILED_PRECONDITION 400, with the service's own words."""
    async with rest.client("service:trainer") as http:
        await register(http, model)
    async with rest.client() as http:
        base = f"/api/v1/models/{model}"
        assert model in is_problem(await http.get(f"/api/v1/models/{model}-x"), 404, "NOT_FOUND")
        is_problem(await http.get(f"{base}/versions", params={"page.size": 5000}), 400, "INVALID_ARGUMENT")
        is_problem(await http.put(f"{base}/aliases/a", json={"version": "1.0.0", "expected": "2.0.0"}), 409, "ABORTED")
        stage = {"stage": "STAGE_PRODUCTION"}
        is_problem(await http.post(f"{base}/versions/1.0.0:promote", json=stage), 400, "FAILED_PRECONDITION")


async def test_who_asks_matters(rest: Rest, model: str) -> None:
    """No token 401 with the way to authenticate, a wrong one 401, a viewer that writes 403, and it may read."""
    viewer = await rest.registry.key(f"v-{model}", "viewer")
    async with httpx.AsyncClient(base_url=rest.address, timeout=20) as http:
        nobody = await http.get("/api/v1/models")
        is_problem(nobody, 401, "UNAUTHENTICATED")
        assert nobody.headers["www-authenticate"] == "Bearer"
    async with rest.client(token="wrong") as http:
        is_problem(await http.get("/api/v1/models"), 401, "UNAUTHENTICATED")
    async with rest.client(token=viewer) as http:
        assert (await http.get("/api/v1/models")).status_code == 200
        is_problem(await http.put(f"/api/v1/models/{model}", json={}), 403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"{", "no JSON"),
        (b"[]", "JSON object"),
        (b'"x"', "JSON object"),
        (b'{"colour": "red"}', "colour"),
        (b'{"approvalRequired": "perhaps"}', "approvalRequired"),
        (b'{"tags": {"a": {"b": 1}}}', "tags"),
        (b'{"name": "other"}', "in the path"),
        (b"\xff", "no JSON"),
        (b'{"description": "' + b"x" * 2**20 + b'"}', "larger than"),
    ],
)
async def test_a_bad_body_is_told(rest: Rest, model: str, body: bytes, match: str) -> None:
    """Whatever is wrong with a body is INVALID_ARGUMENT that names it; it never reaches the service."""
    async with rest.client() as http:
        assert match in is_problem(await http.put(f"/api/v1/models/{model}", content=body), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "query", ["colour=red", "page=3", "page.colour=3", "page.size=many", "page.size=1&page.size=2", "page.size.x=1"]
)
async def test_a_bad_query_is_told(rest: Rest, query: str) -> None:
    """Unknown, wrong and doubled query parameters are INVALID_ARGUMENT."""
    async with rest.client() as http:
        assert is_problem(await http.get(f"/api/v1/models?{query}"), 400, "INVALID_ARGUMENT")
        refused = await http.put("/api/v1/models/x?name=y", json={})
        assert "in the body" in is_problem(refused, 400, "INVALID_ARGUMENT")
        surplus = await http.request("GET", "/api/v1/models", content=b"{}")
        assert "not in a body" in is_problem(surplus, 400, "INVALID_ARGUMENT")


async def test_path_values_are_decoded_after_the_route_is_found(rest: Rest) -> None:
    """%2F does not make another segment and %3A no verb; what is no UTF-8 is refused."""
    async with rest.client() as http:
        assert "there is no model a/b" in is_problem(await http.get("/api/v1/models/a%2Fb"), 404, "NOT_FOUND")
        detail = is_problem(await http.get("/api/v1/models/m/versions/1.0.0%3Adownload"), 400, "INVALID_ARGUMENT")
        assert "1.0.0:download" in detail
        is_problem(await http.get("/api/v1/models/%FF"), 400, "INVALID_ARGUMENT")


async def test_a_request_id_goes_through(rest: Rest) -> None:
    """The caller's own is kept when it is one; else there is a new one, in the header of every answer."""
    async with rest.client() as http:
        kept = await http.get("/api/v1/models", headers={"x-request-id": "mine-1"})
        assert kept.headers["x-request-id"] == "mine-1"
        made = await http.get("/api/v1/models", headers={"x-request-id": "a b"})
        assert len(made.headers["x-request-id"]) == 16


async def test_an_idempotency_key_is_a_request_id(rest: Rest, model: str) -> None:
    """The same PUT with the same key gives the first answer; another body 409."""
    async with rest.client(**{"idempotency-key": f"k-{model}"}) as http:
        first = await http.put(f"/api/v1/models/{model}", json={"description": "a"})
        again = await http.put(f"/api/v1/models/{model}", json={"description": "a"})
        assert first.json() == again.json()
        is_problem(await http.put(f"/api/v1/models/{model}", json={"description": "b"}), 409, "ALREADY_EXISTS")


async def test_a_time_limit_is_kept(rest: Rest) -> None:
    """x-timeout-s ends a call with 504; what is no limit is refused."""
    async with rest.client() as http:
        for wrong in ("0", "-1", "soon", "1e9", "nan"):
            is_problem(await http.get("/api/v1/models", headers={"x-timeout-s": wrong}), 400, "INVALID_ARGUMENT")
        is_problem(await http.get("/api/v1/models", headers={"x-timeout-s": "0.000001"}), 504, "DEADLINE_EXCEEDED")


async def test_a_service_that_is_away_is_unavailable(rest: Rest) -> None:
    """503 with a time to try again, and no address in the text."""
    async with rest.client() as http:
        away = await http.get("/api/v1/deployments")
        assert is_problem(away, 503, "UNAVAILABLE") == "serving cannot be reached; try again later"
        assert away.headers["retry-after"] == "1"


async def test_every_service_answers_about_itself(rest: Rest) -> None:
    """The platform's calls go to the service the path names, the gateway itself among them."""
    async with rest.client() as http:
        for service in ("registry", "gateway"):
            answer = await http.get(f"/api/v1/services/{service}")
            assert answer.json().get("service") == service, answer.text
        audit = await http.get("/api/v1/services/registry/audit:verify")
        assert audit.json()["intact"] is True
        assert "nobody" in is_problem(await http.get("/api/v1/services/nobody"), 404, "NOT_FOUND")
        is_problem(await http.get("/api/v1/services/gateway/audit:verify"), 400, "FAILED_PRECONDITION")


async def test_health_readiness_and_metrics(rest: Rest) -> None:
    """Alive without anything behind it; ready tells what is away; metrics count calls by method."""
    async with rest.client() as http:
        assert (await http.get("/healthz")).text == "alive\n"
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["conditions"]["registry"]) == (200, "")
        assert ready.json()["conditions"]["monitor"]
        assert (await http.get("/readyz?strict")).status_code == 503
        await http.get("/api/v1/models")
        assert 'method="perennial.v1.RegistryService/ListModels",status="OK"' in (await http.get("/metrics")).text
