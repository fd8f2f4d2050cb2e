"""Which ways may a call fail, and what does its caller see?

One class a canonical gRPC status; the message is for the caller: what was wrong, where, and what would be right.
The wrapper of :mod:`perennial.runtime` turns them into statuses, the gateway into problem JSON, the client back.

::

    PerennialError
    ├── InvalidArgument      the request can never be right as it is
    ├── NotFound             what it names does not exist
    ├── AlreadyExists        what it would create exists (or the request id was used with another body)
    ├── PermissionDenied     known caller, not allowed
    ├── Unauthenticated      unknown caller
    ├── FailedPrecondition   right request, wrong state of the system
    ├── Aborted              lost a race (a compare-and-set, a lease); read again, then try again
    ├── OutOfRange           past the valid end of something
    ├── ResourceExhausted    a limit or budget is used up
    ├── Unavailable          try the same again later
    ├── DeadlineExceeded     not done in the time given
    ├── Unimplemented        not offered here
    ├── DataLoss             stored data is damaged
    ├── Internal             our fault
    └── Cancelled            the caller went away
"""

from typing import ClassVar


class PerennialError(Exception):
    """A failure whose text may be shown to the caller."""

    status: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(PerennialError):
    """The request can never be right as it is."""

    status = "INVALID_ARGUMENT"


class NotFound(PerennialError):
    """What the request names does not exist."""

    status = "NOT_FOUND"


class AlreadyExists(PerennialError):
    """What the request would create exists already."""

    status = "ALREADY_EXISTS"


class PermissionDenied(PerennialError):
    """The caller is known and not allowed."""

    status = "PERMISSION_DENIED"


class Unauthenticated(PerennialError):
    """The caller did not prove who it is."""

    status = "UNAUTHENTICATED"


class FailedPrecondition(PerennialError):
    """The system is not in a state that allows this."""

    status = "FAILED_PRECONDITION"


class Aborted(PerennialError):
    """A race was lost: read again, then try again."""

    status = "ABORTED"


class OutOfRange(PerennialError):
    """The request reaches past the valid end of something."""

    status = "OUT_OF_RANGE"


class ResourceExhausted(PerennialError):
    """A limit or a budget is used up."""

    status = "RESOURCE_EXHAUSTED"


class Unavailable(PerennialError):
    """Not possible now; the same call may succeed later."""

    status = "UNAVAILABLE"


class DeadlineExceeded(PerennialError):
    """Not finished in the time given; the effect may or may not have happened."""

    status = "DEADLINE_EXCEEDED"


class Unimplemented(PerennialError):
    """The service does not offer that."""

    status = "UNIMPLEMENTED"


class DataLoss(PerennialError):
    """Stored data is damaged or gone."""

    status = "DATA_LOSS"


class Internal(PerennialError):
    """A fault of the platform itself."""

    status = "INTERNAL"


class Cancelled(PerennialError):
    """The caller gave up."""

    status = "CANCELLED"


BY_STATUS: dict[str, type[PerennialError]] = {kind.status: kind for kind in PerennialError.__subclasses__()}


def from_status(code: str, message: str) -> PerennialError:
    """The error a status stands for; a status without a class of its own becomes ``Internal``."""
    return BY_STATUS.get(code, Internal)(message)
