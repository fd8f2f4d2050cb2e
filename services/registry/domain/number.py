"""Which number does a new version get?

Semver by rule, against the version it was retrained from (else the newest one):

- **major**: rows of existing callers may not fit any more, or the answer is another one: a column was removed, retyped or
  accepts no nulls any more, a column that needs a value was added, the task or the classes changed;
- **minor**: other columns (callers need not notice) or another algorithm; without a parent also other parameters;
- **patch**: the same recipe again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from perennial.errors import FailedPrecondition, InvalidArgument
from perennial.package import Signature

_FORM = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True, order=True)
class Number:
    """major.minor.patch.

    >>> str(Number.parsed("1.10.0")), Number(1, 10, 0) > Number(1, 9, 9)
    ('1.10.0', True)
    """

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parsed(cls, text: str) -> "Number":
        """The number a text names; InvalidArgument when it is none."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidArgument(f"version {text[:50]!r}: use major.minor.patch, for example 1.0.3")
        return cls(*(int(part) for part in found.groups()))


FIRST = Number(1, 0, 0)


class Step(IntEnum):
    """How much of the number must change at least."""

    PATCH = 0
    MINOR = 1
    MAJOR = 2


@dataclass(frozen=True)
class Recipe:
    """What makes a version what it is, apart from the data it learnt from."""

    framework: str
    algorithm: str
    signature: Signature
    parameters: Mapping[str, Any]


def step_between(before: Recipe, after: Recipe, *, retrained: bool) -> Step:
    """The least step the rule asks for; ``retrained`` when the new version names the old one as its parent."""
    if not fits_callers_of(before.signature, after.signature):
        return Step.MAJOR
    if after.signature.digest != before.signature.digest or after.algorithm != before.algorithm:
        return Step.MINOR
    if not retrained and dict(after.parameters) != dict(before.parameters):
        return Step.MINOR
    return Step.PATCH


def fits_callers_of(before: Signature, after: Signature) -> bool:
    """Whether every row the old signature took is taken by the new one, and the answers have the same form."""
    if (after.task, after.classes) != (before.task, before.classes):
        return False
    wanted = {column.name: column for column in after.columns}
    for column in before.columns:
        now = wanted.pop(column.name, None)
        if now is None or now.type != column.type or (column.nullable and not now.nullable):
            return False
    return all(column.nullable for column in wanted.values())


def next_number(base: Number, step: Step, taken: Iterable[Number]) -> Number:
    """The least free number that is ``step`` past ``base``: the next patch of its line, minor of its major, or major."""
    numbers = [*taken, base]
    if step is Step.MAJOR:
        return Number(max(n.major for n in numbers) + 1, 0, 0)
    if step is Step.MINOR:
        return Number(base.major, max(n.minor for n in numbers if n.major == base.major) + 1, 0)
    line = (base.major, base.minor)
    return Number(*line, max(n.patch for n in numbers if (n.major, n.minor) == line) + 1)


def explicit_number(wanted: Number, base: Number, step: Step) -> Number:
    """``wanted`` itself; FailedPrecondition when it is not at least ``step`` past ``base``."""
    least = {
        Step.MAJOR: Number(base.major + 1, 0, 0),
        Step.MINOR: Number(base.major, base.minor + 1, 0),
        Step.PATCH: Number(base.major, base.minor, base.patch + 1),
    }[step]
    if wanted < least:
        raise FailedPrecondition(
            f"version {wanted}: after {base} this change is at least a {step.name.lower()} step, so {least} or higher"
        )
    return wanted
