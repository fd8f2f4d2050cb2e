"""What does a failure look like in HTTP? Problem details (RFC 9457) with the canonical status beside the HTTP one."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

CONTENT_TYPE = "application/problem+json"
STATUSES = {
    "OK": 200, "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401, "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501, "INTERNAL": 500,
    "UNAVAILABLE": 503, "DATA_LOSS": 500,
}  # fmt: skip
"""Canonical status → HTTP, as google/rpc/code.proto maps them."""
_CLIENT_CLOSED = 499
_RETRY_S = "1"


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure as the caller of the REST API sees it."""

    code: str
    """The canonical status, e.g. NOT_FOUND."""
    detail: str
    request_id: str
    status: int = 0
    """The HTTP status where the canonical one does not decide it (404 and 405 of the gateway's own)."""

    @property
    def http_status(self) -> int:
        """The HTTP status."""
        return self.status or STATUSES.get(self.code, 500)

    @property
    def headers(self) -> dict[str, str]:
        """What belongs in the response's header: how to authenticate, when to try again."""
        if self.http_status == HTTPStatus.UNAUTHORIZED:
            return {"www-authenticate": "Bearer"}
        retry = self.http_status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
        return {"retry-after": _RETRY_S} if retry else {}

    def body(self) -> dict[str, Any]:
        """The members of the problem document."""
        status = self.http_status
        title = "Client Closed Request" if status == _CLIENT_CLOSED else HTTPStatus(status).phrase
        return {
            "type": "about:blank", "title": title, "status": status, "detail": self.detail, "code": self.code,
            "requestId": self.request_id,
        }  # fmt: skip
