"""Where does a page begin and end? Keyset pages: a token is the number the next page comes before."""

from collections.abc import Sequence
from typing import Any

from perennial.errors import InvalidArgument
from perennial.v1.common_pb2 import Page

END = ""
DEFAULT, MOST = 50, 1000
_NEWEST = 2**62


def page_of(page: Page) -> tuple[int, int]:
    """Before which number the page comes, and its size. InvalidArgument for a token that is none, or too large a size."""
    if page.size > MOST:
        raise InvalidArgument(f"a page of {page.size} rows; at most {MOST} are given")
    if page.token and not (page.token.lstrip("-").isdigit() and len(page.token) < 20):
        raise InvalidArgument(f"{page.token!r} is no page token")
    return (int(page.token) if page.token else _NEWEST), page.size or DEFAULT


def after(rows: Sequence[Any], size: int) -> tuple[Sequence[Any], str]:
    """Rows by block start, of which one more than the page was read: whole blocks only, and the token after them."""
    if len(rows) <= size:
        return rows, END
    last = rows[size]["start_us"]
    whole = [row for row in rows if row["start_us"] > last]
    if not whole:  # one block has more rows than the page: it is given whole as far as it goes
        return rows[:size], str(last)
    return whole, str(whole[-1]["start_us"])
