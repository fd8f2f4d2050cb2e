"""Calls on API keys."""

import secrets
from collections.abc import Callable

from perennial.clock import Clock
from perennial.v1 import registry_pb2 as pb

from services.registry import wire
from services.registry.domain.key import ApiKey, checked_expiry, checked_roles, digest_of
from services.registry.domain.names import checked_name
from services.registry.service.calling import Context, page_of
from services.registry.store import Keys

_PREFIX = "pk_"
_RANDOM_BYTES = 32


class KeyCalls:
    """Keys of programs."""

    _keys: Keys
    _clock: Clock
    _forget_tokens: Callable[[], None]

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Context) -> pb.CreateApiKeyResponse:
        """Makes an API key that works at once; its text is in this answer and nowhere else."""
        now = self._clock.now()
        ends = wire.time_from(request.expires_at, "expires_at") if request.HasField("expires_at") else None
        text = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        name, roles = checked_name(request.name, "API key"), checked_roles(request.roles)
        key = ApiKey(name, roles, digest_of(text), now, checked_expiry(ends, now=now))
        await self._keys.add(key)
        self._forget_tokens()
        return pb.CreateApiKeyResponse(key=wire.api_key_to(key), text=text)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        """API keys without their text."""
        keys, token = await self._keys.page(page_of(request.page, "api-keys", kind=str))
        return pb.ListApiKeysResponse(keys=map(wire.api_key_to, keys), next_token=token)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Context) -> pb.RevokeApiKeyResponse:
        """Ends an API key; here at once, elsewhere within the time tokens are remembered."""
        key = await self._keys.revoke(wire.key(request.name), at=self._clock.now())
        self._forget_tokens()
        return pb.RevokeApiKeyResponse(key=wire.api_key_to(key))
