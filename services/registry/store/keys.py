"""API keys in PostgreSQL: never their text."""

from datetime import datetime
from typing import Any

from perennial.errors import AlreadyExists, NotFound
from perennial.runtime.postgres import Postgres

from services.registry.domain.key import ApiKey
from services.registry.domain.page import Page


class Keys:
    """The programs that may call."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def add(self, key: ApiKey) -> None:
        """Keep a new key. AlreadyExists when the name was ever used: audits tell callers apart by name."""
        async with self._postgres.transaction() as transaction:
            done = await transaction.execute(
                "insert into api_keys (name, roles, digest, created_at, expires_at) values ($1, $2, $3, $4, $5)"
                " on conflict (name) do nothing",
                key.name, list(key.roles), key.digest, key.created_at, key.expires_at,
            )  # fmt: skip
            if done.endswith(" 0"):
                raise AlreadyExists(f"there is an API key {key.name}, or there was; choose another name")
            await transaction.audit("key.create", key.name, roles=key.roles, expires_at=key.expires_at)

    async def revoke(self, name: str, *, at: datetime) -> ApiKey:
        """End a key, for good; a second time changes nothing. NotFound."""
        async with self._postgres.transaction() as transaction:
            row = await transaction.fetchrow("select * from api_keys where name = $1 for update", name)
            if row is None:
                raise NotFound(f"there is no API key {name}")
            if row["revoked_at"] is None:
                query = "update api_keys set revoked_at = $2 where name = $1 returning *"
                row = await transaction.fetchrow(query, name, at)
                await transaction.audit("key.revoke", name)
        return _key(row)

    async def page(self, page: Page) -> tuple[list[ApiKey], str]:
        """Keys by name."""
        found = await self._postgres.fetch(
            "select * from api_keys where name > $1 order by name limit $2", page.after or "", page.size + 1
        )
        return page.cut([_key(row) for row in found], lambda key: key.name)

    async def alive(self, *, now: datetime) -> list[ApiKey]:
        """Every key that may be used now."""
        found = await self._postgres.fetch(
            "select * from api_keys where revoked_at is null and (expires_at is null or expires_at > $1)", now
        )
        return [_key(row) for row in found]


def _key(row: Any) -> ApiKey:
    return ApiKey(
        row["name"], tuple(row["roles"]), row["digest"], row["created_at"], row["expires_at"], row["revoked_at"] is not None
    )
