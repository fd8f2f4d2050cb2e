"""Which rows are on a page of a list? By keyset: the token holds the last row's key, so pages do not shift."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from perennial.errors import InvalidArgument

T = TypeVar("T")
Key = int | str

DEFAULT_SIZE = 50
LARGEST_SIZE = 1000
_LARGEST_KEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page:
    """At most ``size`` rows past ``after``; None begins."""

    size: int
    after: Key | None
    scope: str
    """Names the list and its filters: a token of one list is refused by another."""

    @classmethod
    def of(cls, size: int, token: str, *, scope: str, kind: type[Key]) -> "Page":
        """The page asked for; InvalidArgument for a size above 1000 or a token that this list did not give out."""
        if size > LARGEST_SIZE:
            raise InvalidArgument(f"page.size {size}: at most {LARGEST_SIZE}")
        return cls(size or DEFAULT_SIZE, _key(token, _mark(scope), kind) if token else None, scope)

    def cut(self, rows: Sequence[T], key: Callable[[T], Key]) -> tuple[list[T], str]:
        """The page of up to ``size + 1`` rows that were read, and the next page's token (empty at the end)."""
        shown = list(rows[: self.size])
        if len(rows) <= self.size:
            return shown, ""
        text = json.dumps([_mark(self.scope), key(shown[-1])], separators=(",", ":"))
        return shown, base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _mark(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()[:12]


def _key(token: str, mark: str, kind: type[Key]) -> Key:
    try:
        found = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidArgument("page.token: not a token of this list; begin again without one") from None
    if not isinstance(found, list) or len(found) != 2 or found[0] != mark or type(found[1]) is not kind:
        raise InvalidArgument("page.token: it belongs to another list or other filters; begin again without one")
    key: Key = found[1]
    if (isinstance(key, int) and not 0 <= key <= _LARGEST_KEY) or (isinstance(key, str) and "\x00" in key):
        raise InvalidArgument("page.token: not a token of this list; begin again without one")
    return key
