"""Where do Kafka's jars come from, and how do we know that they are right?

Resolved once by jgo into the cache all stacks share; every jar must have the SHA-256 of ``kafka_jars.json`` (jgo only
warns about a wrong checksum, never looks again, and writes in place). The class path is kept in a file, so later starts
need neither jgo nor a network.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perennial.local.home import write_private
from perennial.local.part import PartFailed

VERSION = "4.3.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{VERSION}+org.slf4j:slf4j-simple:1.7.36"
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Jar:
    """One verified jar, and what it looked like when it was verified."""

    path: str
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "Jar":
        """The jar at ``path`` as it is now."""
        state = path.stat()
        return cls(str(path), state.st_size, state.st_mtime_ns)

    def unchanged(self) -> bool:
        """Whether nobody touched it since."""
        try:
            return Jar.of(Path(self.path)) == self
        except OSError:
            return False


def pins() -> dict[str, str]:
    """File name → SHA-256 of every jar Kafka runs with."""
    loaded: dict[str, str] = json.loads(Path(__file__).with_name("kafka_jars.json").read_text())
    return loaded


def class_path(cache: Path) -> list[str]:
    """The verified jars; fetched when they are not in the cache. ``PartFailed`` says what could not be got, and how to."""
    known = _remembered(cache)
    if known and all(jar.unchanged() for jar in known):
        return [jar.path for jar in known]
    with locked(cache / "jars.lock"):
        known = _remembered(cache)
        if known and all(jar.unchanged() for jar in known):
            return [jar.path for jar in known]
        jars = _resolved(cache)
        record = {"coordinates": COORDINATES, "jars": [[jar.path, jar.size, jar.modified_ns] for jar in jars]}
        write_private(cache / "class-path.json", json.dumps(record, indent=0))
    return [jar.path for jar in jars]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process of this user at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remembered(cache: Path) -> list[Jar]:
    try:
        record = json.loads((cache / "class-path.json").read_text())
        return [Jar(*row) for row in record["jars"]] if record["coordinates"] == COORDINATES else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _resolved(cache: Path) -> list[Jar]:
    """Every jar, verified; a wrong one is thrown away and fetched once more."""
    wanted = pins()
    present = _present(cache, wanted)
    if present is None:
        _fetch(cache)
        present = _present(cache, wanted)
    if present is None:
        _fetch(cache)
        present = _present(cache, wanted)
    if present is None:
        raise PartFailed(
            f"kafka: the jars that were fetched are not the pinned ones ({COORDINATES}); refused. "
            "Something between here and Maven Central changes files; see kafka_jars.json for what they must be"
        )
    return present


def _present(cache: Path, wanted: dict[str, str]) -> list[Jar] | None:
    """All jars from the cache in the order of the pins, or None; those with a wrong checksum are removed."""
    found = {path.name: path for path in sorted((cache / "m2").rglob("*.jar")) if path.name in wanted}
    good = {}
    for name, path in found.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() == wanted[name]:
            good[name] = path
        else:
            path.unlink()
    return [Jar.of(good[name]) for name in wanted] if len(good) == len(wanted) else None


def _fetch(cache: Path) -> None:
    shutil.rmtree(cache / "jgo", ignore_errors=True)
    try:
        from jgo.env import EnvironmentBuilder, LinkStrategy
        from jgo.maven import MavenContext
    except ImportError as error:
        raise PartFailed("kafka: the package jgo is missing; pip install 'perennial-mlops[local]'") from error
    try:
        context = MavenContext(repo_cache=cache / "m2", timeout=_TIMEOUT_S)
        builder = EnvironmentBuilder(context=context, cache_dir=cache / "jgo", link_strategy=LinkStrategy.SOFT)
        builder.from_endpoint(COORDINATES)
    except Exception as error:  # whatever it is, it is told with what to do
        missing = len(pins()) - sum(1 for _ in (cache / "m2").rglob("*.jar"))
        raise PartFailed(
            f"kafka: {max(missing, 1)} jars of {COORDINATES} could not be fetched from Maven Central "
            f"({type(error).__name__}: {str(error)[:300]}).\n"
            "  They are needed once (45 MB). Either give this machine a way out "
            f"(HTTPS_PROXY is {os.environ.get('HTTPS_PROXY') or 'not set'}), "
            f"or copy the folder {cache} from a machine where `perennial up` ran (PERENNIAL_CACHE names another folder), "
            "or use a broker you have: PERENNIAL_KAFKA__BOOTSTRAP=host:port"
        ) from error
    for path in (cache / "m2").rglob("*.jar.tmp"):
        path.unlink()
