"""Which names and texts are accepted? A name never needs quoting in a path, a query or an object key."""

import re

from perennial.errors import InvalidArgument

CHAMPION = "champion"
"""The alias whose version is at work; its moves take the stages with them."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_TEXT_LIMIT = 100_000
_CODE_ON_LOAD = (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".py", ".so")


def checked_name(name: str, what: str) -> str:
    """The name itself; InvalidArgument when it is not lower-case letters, digits, dash and underscore (at most 100)."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{what} {name[:120]!r}: use 1 to 100 lower-case letters, digits, dashes and underscores")
    return name


def checked_text(text: str, what: str) -> str:
    """The text itself; InvalidArgument when it is too long or holds a NUL, which PostgreSQL cannot store."""
    if "\x00" in text:
        raise InvalidArgument(f"{what} holds a NUL character; remove it")
    if len(text) > _TEXT_LIMIT:
        raise InvalidArgument(f"{what} has {len(text)} characters; at most {_TEXT_LIMIT} are kept")
    return text


def checked_file_kind(name: str) -> str:
    """The file's name itself; InvalidArgument for formats that may run code when they are loaded."""
    if name.lower().endswith(_CODE_ON_LOAD):
        raise InvalidArgument(f"{name}: files that may run code on load are refused; export to ONNX, safetensors or JSON")
    return name
