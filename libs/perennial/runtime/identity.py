"""Who is calling?

The wrapper sets the caller of a call before its handler runs; handlers and domain code read it with :func:`caller`.
Outside a call (event handlers, background work) the caller is the service itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from perennial.errors import Unauthenticated

Kind = Literal["person", "program", "service"]

VIEWER = "viewer"
APPLICATION = "application"
DATA_SCIENTIST = "data-scientist"
APPROVER = "approver"
ADMIN = "admin"
SERVICE = "service"
ROLES = frozenset({VIEWER, APPLICATION, DATA_SCIENTIST, APPROVER, ADMIN})
_INCLUDES = {
    ADMIN: ROLES,
    DATA_SCIENTIST: frozenset({DATA_SCIENTIST, VIEWER, APPLICATION}),
    APPROVER: frozenset({APPROVER, VIEWER}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may call; equal when the same one."""

    name: str
    kind: Kind
    roles: frozenset[str]
    """Its roles with all they include."""

    def __str__(self) -> str:
        return self.name

    def has(self, role: str) -> bool:
        """Whether it may do what ``role`` may."""
        return ADMIN in self.roles or role in self.roles


def principal(name: str, kind: Kind, roles: frozenset[str] | set[str] | list[str]) -> Principal:
    """The principal with these roles and everything they include."""
    effective: set[str] = set()
    for role in roles:
        effective |= _INCLUDES.get(role, frozenset({role}))
    return Principal(name, kind, frozenset(effective))


def service_principal(service: str) -> Principal:
    """The principal of a service of the platform."""
    return Principal(f"service:{service}", "service", frozenset({SERVICE, f"service:{service}"}))


ANONYMOUS = Principal("anonymous", "program", frozenset())
_CALLER: ContextVar[Principal] = ContextVar("perennial_caller")


def caller() -> Principal:
    """The one the present work is done for; ``Unauthenticated`` when nobody was set."""
    try:
        return _CALLER.get()
    except LookupError:
        raise Unauthenticated("no caller is known here") from None


@contextmanager
def acting_as(who: Principal) -> Iterator[None]:
    """Do the body's work in the name of ``who``."""
    token = _CALLER.set(who)
    try:
        yield
    finally:
        _CALLER.reset(token)
