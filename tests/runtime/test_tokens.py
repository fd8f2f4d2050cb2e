"""Who a token proves: people of an OIDC issuer, programs with API keys, services."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from perennial.errors import Unauthenticated, Unavailable
from perennial.runtime.config import ServiceConfig
from perennial.runtime.tokens import ApiKeys, KnownKey, OwnToken, ServiceKey, Verifier, digest_of

ISSUER = "https://people.example"


class OneConfig(ServiceConfig):
    """A service that accepts people."""

    service = "one"
    needs_database = False


def keys() -> dict[str, tuple[Any, str]]:
    """A key of every accepted algorithm."""
    return {
        "ed": (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        "rsa": (rsa.generate_private_key(65537, 2048), "RS256"),
        "ec": (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    }


KEYS = keys()


def jwks() -> str:
    """What the issuer publishes."""
    found = []
    for kid, (key, algorithm) in KEYS.items():
        public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())
        found.append({**(json.loads(public) if isinstance(public, str) else public), "kid": kid, "alg": algorithm})
    return json.dumps({"keys": found})


@pytest.fixture
def verifier(tmp_path: Path, secrets_dir: Path) -> Verifier:
    (tmp_path / "jwks.json").write_text(jwks())
    config = OneConfig.load(secrets_dir=secrets_dir, oidc_issuer=ISSUER, oidc_jwks=str(tmp_path / "jwks.json"))
    return Verifier(config, ServiceKey(config.secret("service_key", "service-key")))


def person(kid: str = "ed", **change: Any) -> str:
    claims = {
        "iss": ISSUER,
        "aud": "perennial",
        "sub": "1",
        "email": "ada@example",
        "exp": time.time() + 60,
        "roles": ["approver"],
    }
    key, algorithm = KEYS[kid]
    wanted = {name: value for name, value in {**claims, **change}.items() if value is not None}
    return jwt.encode(wanted, key, algorithm=algorithm, headers={"kid": kid})


@pytest.mark.parametrize("kid", KEYS)
async def test_a_person_is_who_the_issuer_says(verifier: Verifier, kid: str) -> None:
    """Every accepted algorithm; roles with what they include."""
    who = await verifier.verify(f"Bearer {person(kid)}")
    assert (who.name, who.kind, who.roles) == ("ada@example", "person", frozenset({"approver", "viewer"}))


@pytest.mark.parametrize(
    "change", [{"exp": 1}, {"aud": "others"}, {"iss": "https://evil.example"}, {"sub": None}, {"exp": None}, {"aud": None}]
)
async def test_a_person_with_a_wrong_token_is_nobody(verifier: Verifier, change: dict[str, Any]) -> None:
    """Expired, for others, of others, or incomplete."""
    with pytest.raises(Unauthenticated):
        await verifier.verify(f"Bearer {person(**change)}")


async def test_a_person_cannot_be_a_service(verifier: Verifier) -> None:
    """An issuer's claim never gives a service's role."""
    who = await verifier.verify(f"Bearer {person(roles=['service', 'service:registry', 'viewer'])}")
    assert who.roles == {"viewer"}


async def test_unsigned_and_confused_tokens_are_refused(verifier: Verifier) -> None:
    """Alg none, a public key used as a secret, an unknown key, garbage."""
    claims = {"iss": ISSUER, "aud": "perennial", "sub": "1", "exp": time.time() + 60, "roles": ["admin"]}
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": "ed"})
    confused = jwt.encode(claims, "a-secret-of-the-attacker-with-enough-length", algorithm="HS256", headers={"kid": "ed"})
    unknown = jwt.encode(claims, KEYS["ed"][0], algorithm="EdDSA", headers={"kid": "other"})
    for token in (unsigned, confused, unknown, "a.b.c", "..", "x", "\u00e4"):
        with pytest.raises(Unauthenticated):
            await verifier.verify(f"Bearer {token}")
    for header in ("", "Bearer", "Bearer ", "Basic abc", "token"):
        with pytest.raises(Unauthenticated):
            await verifier.verify(header)


async def test_an_api_key_is_known_by_its_digest_until_it_ends(verifier: Verifier) -> None:
    """Revoked and expired keys are nobody; an outage of the registry changes nothing for known ones."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    table = [KnownKey(digest_of("key-1"), "batch", frozenset({"application"}), soon)]
    down = False

    async def load() -> list[KnownKey]:
        if down:
            raise Unavailable("no registry")
        return table

    verifier.keys.load = load
    who = await verifier.verify("Bearer key-1")
    assert (who.name, who.kind, who.roles) == ("batch", "program", frozenset({"application"}))
    down = True
    verifier.forget()
    assert (await verifier.verify("Bearer key-1")).name == "batch"
    down, table = False, []
    verifier.forget()
    with pytest.raises(Unauthenticated):
        await verifier.verify("Bearer key-1")
    table = [KnownKey(digest_of("key-2"), "old", frozenset(), datetime.now(UTC) - timedelta(seconds=1))]
    verifier.forget()
    with pytest.raises(Unauthenticated, match="expired"):
        await verifier.verify("Bearer key-2")


async def test_guesses_do_not_load_the_registry() -> None:
    """Unknown tokens ask for the keys at most every two seconds."""
    loads = 0

    async def load() -> list[KnownKey]:
        nonlocal loads
        loads += 1
        return []

    found = ApiKeys()
    found.load = load
    for number in range(100):
        assert await found.find(digest_of(str(number))) is None
    assert loads == 1


def test_a_service_key_may_be_a_secret_or_an_ed25519_key() -> None:
    """Both sign tokens and heads; a short secret is refused."""
    pem = KEYS["ed"][0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text, algorithm in (("s" * 32, "HS256"), (pem, "EdDSA")):
        key = ServiceKey(text)
        assert key.algorithm == algorithm
        token = OwnToken(key, "trainer", "perennial:x")
        assert token() == token()
        assert key.claims(token(), audience="perennial:x")["sub"] == "trainer"
        with pytest.raises(jwt.PyJWTError):
            key.claims(token(), audience="perennial:y")
        assert key.verifies(b"data", key.signature(b"data"))
        assert not key.verifies(b"other", key.signature(b"data"))
    with pytest.raises(ValueError, match="shorter"):
        ServiceKey("short")
