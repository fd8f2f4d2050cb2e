"""API keys."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from perennial.errors import AlreadyExists, InvalidArgument, Unauthenticated
from perennial.v1 import common_pb2 as common
from perennial.v1 import registry_pb2 as pb

from tests.registry.conftest import Registry


@pytest.fixture
def name() -> str:
    """A key's name that no other test uses."""
    return f"k-{secrets.token_hex(5)}"


async def test_a_key_lets_its_program_in_until_it_is_revoked(registry: Registry, name: str) -> None:
    """The text works at once with its roles, is shown once, and stops working with the revocation."""
    made = await registry.call("CreateApiKey", pb.CreateApiKeyRequest(name=name, roles=["viewer"]))
    assert made.text.startswith("pk_")
    assert made.text not in str(made.key)
    await registry.call("ListModels", pb.ListModelsRequest(), token=made.text)
    ended = (await registry.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=name))).key
    assert ended.revoked
    with pytest.raises(Unauthenticated):
        await registry.call("ListModels", pb.ListModelsRequest(), token=made.text)
    again = (await registry.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=name))).key
    assert again == ended


async def test_services_see_digests_and_nothing_more(registry: Registry, name: str) -> None:
    """ListApiKeys is what other services' caches are filled from: digest, roles, end, revoked."""
    made = await registry.call("CreateApiKey", pb.CreateApiKeyRequest(name=name, roles=["viewer", "application", "viewer"]))
    keys: dict[str, pb.ApiKey] = {}
    token = ""
    while True:
        request = pb.ListApiKeysRequest(page=common.Page(size=2, token=token))
        answer = await registry.call("ListApiKeys", request, by="service:serving")
        keys |= {key.name: key for key in answer.keys}
        token = answer.next_token
        if not token:
            break
    assert keys[name] == made.key
    assert list(made.key.roles) == ["application", "viewer"]


async def test_a_name_is_used_once(registry: Registry, name: str) -> None:
    """Also after its revocation: the audit tells callers apart by name."""
    await registry.key(name, "viewer")
    await registry.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=name))
    with pytest.raises(AlreadyExists, match=name):
        await registry.key(name, "viewer")


async def test_what_is_no_key_is_refused(registry: Registry, name: str) -> None:
    """No role, a role that is none or a service's, a name that is none, an end that is past."""
    past = Timestamp()
    past.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
    for wrong in (
        pb.CreateApiKeyRequest(name=name),
        pb.CreateApiKeyRequest(name=name, roles=["root"]),
        pb.CreateApiKeyRequest(name=name, roles=["service:serving"]),
        pb.CreateApiKeyRequest(name="A b", roles=["viewer"]),
        pb.CreateApiKeyRequest(name=name, roles=["viewer"], expires_at=past),
        pb.CreateApiKeyRequest(name=name, roles=["viewer"], expires_at=Timestamp(seconds=10**18)),
    ):
        with pytest.raises(InvalidArgument):
            await registry.call("CreateApiKey", wrong)
