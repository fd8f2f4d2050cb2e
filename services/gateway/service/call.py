"""One call of the REST API: who asks, for how long, in which form."""

import re
import secrets
from dataclasses import dataclass

from perennial.errors import InvalidArgument, PerennialError
from starlette.requests import Request

from services.gateway.config import GatewayConfig
from services.gateway.domain.accept import Wanted, wanted
from services.gateway.domain.problem import Problem
from services.gateway.service.upstream import Metadata

REQUEST_ID = "x-request-id"
TIMEOUT = "x-timeout-s"
IDEMPOTENCY_KEY = "idempotency-key"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PASSED_ON = ("authorization", "traceparent")


@dataclass(frozen=True, slots=True)
class Call:
    """What the headers say."""

    request_id: str
    metadata: Metadata
    timeout_s: float
    wanted: Wanted
    idempotency_key: str

    @classmethod
    def of(cls, request: Request, config: GatewayConfig, *, request_id: str, streamed: bool) -> "Call":
        """The call of a request; InvalidArgument when its time limit is none."""
        passed = tuple((name, request.headers[name]) for name in _PASSED_ON if name in request.headers)
        usual = config.longest_deadline_s if streamed else config.deadline_s
        text = request.headers.get(TIMEOUT, "")
        return cls(
            request_id=request_id,
            metadata=((REQUEST_ID, request_id), *passed),
            timeout_s=_timeout(text, most=config.longest_deadline_s) if text else usual,
            wanted=wanted(request.headers.get("accept", "")),
            idempotency_key=request.headers.get(IDEMPOTENCY_KEY, ""),
        )


def request_id_of(request: Request) -> str:
    """The caller's request id, or a new one when it sent none that can be kept."""
    given = request.headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def problem_of(error: PerennialError, request_id: str) -> Problem:
    """The problem document of a failure."""
    return Problem(error.status, error.message, request_id)


def _timeout(text: str, *, most: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= most:
        raise InvalidArgument(f"{TIMEOUT} {text!r}: use seconds above 0 and at most {most:g}")
    return seconds
