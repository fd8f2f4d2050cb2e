"""Who may call which method?

Our own methods say so in their proto (``perennial.v1.access``); a service refuses to start when one does not. The
standard protocols cannot carry our option, so theirs is the one table here.
"""

from dataclasses import dataclass
from typing import Any

from perennial.runtime.identity import ADMIN, APPLICATION, ROLES, SERVICE, VIEWER


@dataclass(frozen=True, slots=True)
class Policy:
    """Callers with any of the roles are let in; everybody when public."""

    roles: frozenset[str]
    public: bool = False


class NoPolicy(Exception):
    """A method cannot be offered because nobody said who may call it."""


_PUBLIC = Policy(frozenset(), public=True)
_READ = Policy(frozenset({ADMIN, VIEWER, APPLICATION, SERVICE}))
_USE = Policy(frozenset({ADMIN, APPLICATION, SERVICE}))
_MANAGE = Policy(frozenset({ADMIN}))

_OIP = "inference.GRPCInferenceService"
STANDARD: dict[str, Policy] = {
    "grpc.health.v1.Health/Check": _PUBLIC,
    "grpc.health.v1.Health/Watch": _PUBLIC,
    "grpc.health.v1.Health/List": _PUBLIC,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _PUBLIC,
    f"{_OIP}/ServerLive": _PUBLIC,
    f"{_OIP}/ServerReady": _PUBLIC,
    f"{_OIP}/ModelReady": _READ,
    f"{_OIP}/ServerMetadata": _READ,
    f"{_OIP}/ModelMetadata": _READ,
    f"{_OIP}/ModelConfig": _READ,
    f"{_OIP}/ModelStatistics": _READ,
    f"{_OIP}/RepositoryIndex": _READ,
    f"{_OIP}/ModelInfer": _USE,
    f"{_OIP}/ModelStreamInfer": _USE,
}
"""Methods of the protocol that are not here (loading, shared memory, logging) get ``_MANAGE``."""


def policy_of(method: Any) -> Policy:
    """The policy of a method descriptor; :class:`NoPolicy` names what is missing."""
    full_name = f"{method.containing_service.full_name}/{method.name}"
    if full_name in STANDARD:
        return STANDARD[full_name]
    if method.containing_service.full_name == _OIP:
        return _MANAGE
    from perennial.v1 import access_pb2

    options = method.GetOptions()
    if not options.HasExtension(access_pb2.access):
        raise NoPolicy(f"{full_name} has no option (perennial.v1.access); say who may call it in its proto")
    access = options.Extensions[access_pb2.access]
    if access.public:
        return _PUBLIC
    if not access.roles:
        raise NoPolicy(f"{full_name}: its access option names no role and is not public")
    unknown = [role for role in access.roles if role not in ROLES and role != SERVICE and not role.startswith(f"{SERVICE}:")]
    if unknown:
        raise NoPolicy(f"{full_name}: unknown roles {', '.join(unknown)}")
    return Policy(frozenset(access.roles) | {ADMIN})
