"""What is kept of a program's API key?"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from perennial.errors import InvalidArgument

ROLES = ("viewer", "application", "data-scientist", "approver", "admin")
"""What a program may be given. The roles of services are not among them: their tokens are signed."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its text."""

    name: str
    roles: tuple[str, ...]
    digest: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked: bool = False


def digest_of(text: str) -> str:
    """sha256 of a key's text, hex: all that is stored of it."""
    return hashlib.sha256(text.encode()).hexdigest()


def checked_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, sorted and once each; InvalidArgument when there is none or one is unknown."""
    given = tuple(sorted(set(roles)))
    unknown = [role for role in given if role not in ROLES]
    if not given or unknown:
        raise InvalidArgument(f"roles {', '.join(unknown) or 'are missing'}: use {', '.join(ROLES)}")
    return given


def checked_expiry(expires_at: datetime | None, *, now: datetime) -> datetime | None:
    """The end itself; InvalidArgument when it is past."""
    if expires_at is not None and expires_at <= now:
        raise InvalidArgument(f"expires_at {expires_at.isoformat()} is past")
    return expires_at
