"""Which path template does a path match?

Templates are those of ``google.api.http`` with whole-segment variables and verbs at the end of any segment:
``/api/v1/models/{name}/versions/{version}:compare/{other}``. Where several match, the one that is literal earliest wins:
a literal segment before ``{x}:verb`` before ``{x}``. A verb is recognised only as it is written in the path: a value's own
colon can be sent as it is (``decision:7``) and one that looks like a verb as ``%3A``.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from perennial.errors import InvalidArgument

_SEGMENT = re.compile(r"\{([a-z0-9_.]+)\}(?::([a-z0-9-]+))?")


@dataclass(frozen=True, slots=True)
class Segment:
    """One part between slashes: a literal, or a variable with or without a verb."""

    literal: str = ""
    variable: str = ""
    verb: str = ""

    @classmethod
    def parsed(cls, text: str) -> "Segment":
        """The segment a template's text means."""
        found = _SEGMENT.fullmatch(text)
        return cls(variable=found[1], verb=found[2] or "") if found else cls(literal=text)

    @property
    def rank(self) -> int:
        """Lower is tried first."""
        return 0 if self.literal else 1 if self.verb else 2

    def value(self, raw: str) -> str | None:
        """What of a path's raw segment fills the variable (empty for a literal); None when it does not match."""
        if self.literal:
            return "" if raw == self.literal else None
        if self.verb:
            rest = raw.removesuffix(f":{self.verb}")
            return rest if rest and rest != raw else None
        return raw or None


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template."""

    text: str
    segments: tuple[Segment, ...]

    @classmethod
    def parsed(cls, text: str) -> "Template":
        """The template of a google.api.http path; ValueError when it does not begin with a slash or ends with one."""
        if not text.startswith("/") or text.endswith("/"):
            raise ValueError(f"route {text!r} must begin with a slash and not end with one")
        return cls(text, tuple(Segment.parsed(part) for part in text[1:].split("/")))

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables, in order."""
        return tuple(segment.variable for segment in self.segments if segment.variable)

    @property
    def rank(self) -> tuple[int, ...]:
        """Templates of the same length in order of rank: literal paths win."""
        return tuple(segment.rank for segment in self.segments)

    def match(self, parts: tuple[str, ...]) -> dict[str, str] | None:
        """The decoded values of the variables when a path's raw parts fit; None when they do not."""
        if len(parts) != len(self.segments):
            return None
        values = {}
        for segment, raw in zip(self.segments, parts, strict=True):
            value = segment.value(raw)
            if value is None:
                return None
            if segment.variable:
                values[segment.variable] = value
        return {name: decoded(value) for name, value in values.items()}


def parts_of(raw_path: str) -> tuple[str, ...]:
    """The raw parts of a path; one slash at its end is overlooked."""
    return tuple(raw_path.removeprefix("/").removesuffix("/").split("/"))


def decoded(raw: str) -> str:
    """A segment's text; InvalidArgument when its bytes are no UTF-8."""
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"path segment {raw!r}: not UTF-8") from None
