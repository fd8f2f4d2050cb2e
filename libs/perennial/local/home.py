"""Where does a stack keep what is its own?

``Home`` is one stack's folder: data, logs, pid files, secrets, the env file, and the ports it was given before.
``cache_folder`` is what all stacks of a user share.
"""

import json
import os
import random
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_FIRST, _LAST = 20_000, 32_700  # below the range from which the kernel takes ports of outgoing connections


def cache_folder() -> Path:
    """``PERENNIAL_CACHE``, or ``perennial`` in the user's cache folder; made when missing."""
    named = os.environ.get("PERENNIAL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (Path(named) if named else base / "perennial").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def default_home(start: Path | None = None) -> Path:
    """``PERENNIAL_HOME``, or ``.perennial`` in the checkout around ``start``, or in ``start`` itself."""
    if named := os.environ.get("PERENNIAL_HOME"):
        return Path(named).absolute()
    here = (start or Path.cwd()).absolute()
    checkouts = (folder for folder in (here, *here.parents) if (folder / "services" / "__init__.py").is_file())
    return next(checkouts, here) / ".perennial"


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of the loopback now."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` at once by a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """Write an env file (0600): ``NAME=value`` a line, for the shell's ``source`` and for every reader of the platform."""
    write_private(path, "".join(f"{name}={value}\n" for name, value in values.items()))


def read_env(path: Path) -> dict[str, str]:
    """The variables of an env file; empty when it is not there."""
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("'\"") for name, value in pairs}


@dataclass(frozen=True)
class Home:
    """The folder of one stack."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Home":
        """The home at ``folder``, made with its parts when missing."""
        home = cls(folder.absolute())
        for part in (home.folder, home.logs, home.run):
            part.mkdir(parents=True, exist_ok=True)
        home.secrets.mkdir(exist_ok=True, mode=0o700)
        return home

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.folder / "logs"

    @property
    def run(self) -> Path:
        """Pid files, the lock and the state of the supervisor."""
        return self.folder / "run"

    @property
    def secrets(self) -> Path:
        """Generated secrets, one a file (0600)."""
        return self.folder / "secrets"

    @property
    def env(self) -> Path:
        """What services, CLI and SDK read."""
        return self.folder / "env"

    @property
    def servers_env(self) -> Path:
        """Addresses of the servers with their administrators' credentials; only provisioning reads it."""
        return self.folder / "servers.env"

    def secret(self, name: str, *, length: int = 24) -> str:
        """A secret of this home, generated at its first use."""
        path = self.secrets / name
        if not path.is_file():
            write_private(path, secrets.token_urlsafe(length) + "\n")
        return path.read_text().strip()

    def port(self, name: str, usual: int, *, avoid: Iterable[int] = ()) -> int:
        """A port for ``name``: the one it had, else the usual one, else any free one. Remembered."""
        known = self._ports()
        others = {port for other, port in known.items() if other != name} | set(avoid)
        wanted = [known[name]] if name in known else []
        usual_ones = [usual] if usual else []
        for port in (*wanted, *usual_ones, *random.sample(range(_FIRST, _LAST), 500)):
            if port not in others and is_free(port):
                write_private(self.run / "ports.json", json.dumps({**known, name: port}, indent=1))
                return port
        raise OSError(f"no free port for {name} between {_FIRST} and {_LAST}")

    def _ports(self) -> dict[str, int]:
        try:
            return {str(name): int(port) for name, port in json.loads((self.run / "ports.json").read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return {}
