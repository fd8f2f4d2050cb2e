"""REST over real HTTP: routes, fields, errors, headers."""

from tests.gateway.conftest import Rest


async def test_a_model_is_made_and_read(rest: Rest, model: str) -> None:
    """PUT makes it, GET reads it, names are lowerCamelCase."""
    async with rest.client() as http:
        made = await http.put(f"/api/v1/models/{model}", json={"description": "eta", "approvalRequired": True})
        assert made.status_code == 200, made.text
        read = await http.get(f"/api/v1/models/{model}")
    assert read.json() == made.json()
    found = read.json()["model"]
    assert (found["name"], found["description"], found["approvalRequired"], found["aliases"]) == (model, "eta", True, {})
