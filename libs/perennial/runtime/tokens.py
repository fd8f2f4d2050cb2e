"""Which token proves which caller?

A local admin token, API keys (only their sha256 is known here), short-lived JWTs of services signed with the platform's
key, and JWTs of people from an OIDC issuer. What was verified is remembered by the bytes of the header until it expires.
"""

import asyncio
import hashlib
import hmac
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from perennial.errors import PerennialError, Unauthenticated
from perennial.runtime import telemetry
from perennial.runtime.identity import ADMIN, ANONYMOUS, Principal, principal, service_principal

if TYPE_CHECKING:
    from perennial.runtime.config import ServiceConfig

ISSUER = "perennial"
TOKEN_S = 600
REMEMBER_S = 30.0
REMEMBERED = 10_000
_KEY_BYTES = 32
_LEEWAY_S = 30
_OIDC_ALGORITHMS = ["EdDSA", "RS256", "ES256"]
_LOG = telemetry.log(__name__)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What is known of an API key."""

    digest: str
    """sha256 of its text, hex."""
    name: str
    roles: frozenset[str]
    expires_at: datetime | None = None


LoadKeys = Callable[[], Awaitable[Iterable[KnownKey]]]


def digest_of(key: str) -> str:
    """What is stored of an API key."""
    return hashlib.sha256(key.encode()).hexdigest()


class ServiceKey:
    """The platform's key: an Ed25519 private key (PEM) or a shared secret."""

    def __init__(self, text: str) -> None:
        if "PRIVATE KEY" in text:
            from cryptography.hazmat.primitives.serialization import load_pem_private_key

            self._sign: Any = load_pem_private_key(text.encode(), None)
            self._check: Any = self._sign.public_key()
            self.algorithm = "EdDSA"
        else:
            if len(text) < _KEY_BYTES:
                raise ValueError(f"the service key is shorter than {_KEY_BYTES} characters")
            self._sign = self._check = text.encode()
            self.algorithm = "HS256"

    def token(self, service: str, *, audience: str) -> str:
        """A token of ``service`` for ten minutes."""
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": service, "aud": audience, "iat": now, "exp": now + TOKEN_S}
        return jwt.encode(claims, self._sign, algorithm=self.algorithm)

    def claims(self, token: str, *, audience: str) -> dict[str, Any]:
        """The claims of a valid token; a ``jwt`` error otherwise."""
        needed: Any = {"require": ["exp", "iat", "sub"]}
        return jwt.decode(
            token,
            self._check,
            algorithms=[self.algorithm],
            audience=audience,
            issuer=ISSUER,
            options=needed,
            leeway=_LEEWAY_S,
        )

    def signature(self, data: bytes) -> bytes:
        """A signature over ``data``, for facts other than tokens."""
        if self.algorithm == "EdDSA":
            return bytes(self._sign.sign(data))
        return hmac.digest(self._sign, data, "sha256")

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Whether ``signature`` over ``data`` was made with this key."""
        if self.algorithm == "HS256":
            return hmac.compare_digest(hmac.digest(self._check, data, "sha256"), signature)
        from cryptography.exceptions import InvalidSignature

        try:
            self._check.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class OwnToken:
    """The token of this service for calls to others; the same text for five minutes, so that receivers remember it."""

    def __init__(self, key: ServiceKey, service: str, audience: str) -> None:
        self._key, self._service, self._audience = key, service, audience
        self._text, self._until = "", 0.0

    def __call__(self) -> str:
        """The token."""
        if time.monotonic() >= self._until:
            self._text = self._key.token(self._service, audience=self._audience)
            self._until = time.monotonic() + TOKEN_S / 2
        return self._text


class Verifier:
    """Turns the ``authorization`` header into a principal."""

    def __init__(self, config: "ServiceConfig", key: ServiceKey) -> None:
        self._admin = config.secret("admin_token", "admin-token").encode()
        self._key = key
        self._audience = audience_of(config)
        self._issuer = Issuer(config) if config.oidc_issuer and config.oidc_jwks else None
        self.keys = ApiKeys()
        self.remembered: dict[str, tuple[Principal, float]] = {}
        """Header → (principal, ``perf_counter`` until which it holds). Read by the wrapper on every call."""

    async def verify(self, header: str) -> Principal:
        """The caller; ``Unauthenticated`` says what is wrong with the token, never the token itself."""
        if not header:
            raise Unauthenticated("no authorization metadata; send 'authorization: Bearer <token>'")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("the authorization metadata is not 'Bearer <token>'")
        who, holds_s = await self._principal(token.strip())
        if len(self.remembered) >= REMEMBERED:
            self.remembered.clear()
        self.remembered[header] = (who, time.perf_counter() + min(holds_s, REMEMBER_S))
        return who

    def forget(self) -> None:
        """Verify every token anew, for example after an API key was revoked."""
        self.remembered.clear()
        self.keys.expire()

    async def _principal(self, token: str) -> tuple[Principal, float]:
        if hmac.compare_digest(token.encode(), self._admin):
            return principal("admin", "person", {ADMIN}), REMEMBER_S
        if token.count(".") == 2:
            return await self._from_jwt(token)
        key = await self.keys.find(digest_of(token))
        if key is None:
            raise Unauthenticated("the token is not known")
        holds = REMEMBER_S if key.expires_at is None else (key.expires_at - datetime.now(UTC)).total_seconds()
        if holds <= 0:
            raise Unauthenticated("the API key has expired")
        return principal(key.name, "program", key.roles), holds

    async def _from_jwt(self, token: str) -> tuple[Principal, float]:
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            if issuer == ISSUER:
                claims = self._key.claims(token, audience=self._audience)
                who = service_principal(str(claims["sub"]))
            elif self._issuer is not None:
                claims = await self._issuer.claims(token)
                who = self._issuer.principal(claims)
            else:
                raise Unauthenticated("tokens of this issuer are not accepted here")
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is not valid: {error}") from None
        return who, max(float(claims["exp"]) - time.time(), 0.0)


def audience_of(config: "ServiceConfig") -> str:
    """Whom service tokens are for: the services of one platform."""
    return f"{ISSUER}:{config.namespace}"


class ApiKeys:
    """The API keys of the platform by digest, loaded when one is asked for that is not known."""

    STALE_S = 30.0
    PAUSE_S = 2.0

    def __init__(self) -> None:
        self.load: LoadKeys | None = None
        self._keys: dict[str, KnownKey] = {}
        self._loaded = self._tried = -1e9
        self._lock = asyncio.Lock()

    async def find(self, digest: str) -> KnownKey | None:
        """The key, or None. When the registry does not answer, what was known last holds."""
        now = time.monotonic()
        if now - self._loaded > self.STALE_S or digest not in self._keys:
            await self._refresh(now)
        return self._keys.get(digest)

    def expire(self) -> None:
        """Load again at the next question."""
        self._loaded = self._tried = -1e9

    def snapshot(self) -> list[KnownKey]:
        """What is known now, to be kept on disk."""
        return list(self._keys.values())

    def restore(self, keys: Iterable[KnownKey]) -> None:
        """Begin with what was kept."""
        self._keys = {key.digest: key for key in keys}

    async def _refresh(self, now: float) -> None:
        async with self._lock:
            if self.load is None or now - self._tried < self.PAUSE_S:
                return
            self._tried = now
            try:
                keys = await asyncio.wait_for(_loaded(self.load), 3.0)
            except (PerennialError, TimeoutError, OSError) as error:
                _LOG.warning("API keys could not be loaded; the last known ones hold", error=str(error))
                return
            self.restore(keys)
            self._loaded = now


async def _loaded(load: LoadKeys) -> Iterable[KnownKey]:
    return await load()


class Issuer:
    """An OIDC issuer and its keys."""

    FRESH_S = 600.0
    PAUSE_S = 30.0

    def __init__(self, config: "ServiceConfig") -> None:
        self._name, self._audience = config.oidc_issuer, config.oidc_audience
        self._source, self._roles = config.oidc_jwks, config.oidc_roles_claim
        self._keys: dict[str, Any] = {}
        self._loaded = -1e9

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a valid token; a ``jwt`` error otherwise."""
        kid = str(jwt.get_unverified_header(token).get("kid", ""))
        key = await self._key(kid)
        needed: Any = {"require": ["exp", "iss", "aud", "sub"]}
        return jwt.decode(
            token,
            key.key,
            algorithms=_OIDC_ALGORITHMS,
            audience=self._audience,
            issuer=self._name,
            options=needed,
            leeway=_LEEWAY_S,
        )

    def principal(self, claims: dict[str, Any]) -> Principal:
        """The person; a token without roles is a caller without rights."""
        roles = claims.get(self._roles, [])
        listed = [roles] if isinstance(roles, str) else [str(role) for role in roles]
        plain = [role for role in listed if role != "service" and not role.startswith("service:")]
        name = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
        return principal(name, "person", plain) if plain else Principal(name, "person", ANONYMOUS.roles)

    async def _key(self, kid: str) -> Any:
        now = time.monotonic()
        stale = now - self._loaded > self.FRESH_S or (kid not in self._keys and now - self._loaded > self.PAUSE_S)
        if stale:
            try:
                text = await asyncio.wait_for(asyncio.to_thread(self._read), 6.0)
                self._keys = {str(key.key_id or ""): key for key in jwt.PyJWKSet.from_dict(json.loads(text)).keys}
            except (OSError, ValueError, TimeoutError) as error:
                _LOG.warning("the issuer's keys could not be read; the last known ones hold", error=str(error))
            self._loaded = now
        if kid not in self._keys:
            raise Unauthenticated("the token is signed with a key its issuer does not publish")
        return self._keys[kid]

    def _read(self) -> str:
        if self._source.startswith(("http://", "https://")):
            with urllib.request.urlopen(self._source, timeout=5) as answer:  # noqa: S310 the scheme was checked
                return str(answer.read().decode())
        return Path(self._source).read_text()
