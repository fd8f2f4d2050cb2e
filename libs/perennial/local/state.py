"""Who has a home, and how are its parts? The lock and the state file that one supervisor writes and everybody reads."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perennial.local.home import Home, write_private

Kind = str  # "server" | "service"


class AlreadyRunning(Exception):
    """Another supervisor has this home."""


@dataclass
class Status:
    """What is known of one part. ``state``: waiting, starting, running, restarting, failed, stopping, stopped."""

    name: str
    kind: Kind
    state: str = "waiting"
    address: str = ""
    pid: int = 0
    restarts: int = 0
    since: float = 0.0
    detail: str = ""


@dataclass
class State:
    """A supervisor's view of its home; every change is written down at once."""

    home: Home
    namespace: str = ""
    phase: str = "starting"
    parts: dict[str, Status] = field(default_factory=dict)
    on_change: Callable[["State"], None] = lambda _state: None
    started: float = field(default_factory=time.time)

    def add(self, name: str, kind: Kind) -> Status:
        """A part that will be started."""
        return self.parts.setdefault(name, Status(name, kind))

    def note(self, name: str, state: str, **changes: Any) -> None:
        """A part changed."""
        status = self.parts[name]
        if status.state != state:
            status.since = time.time()
        status.state = state
        status.detail = ""
        for attribute, value in changes.items():
            setattr(status, attribute, value)
        self.written()

    def cleared(self, names: list[str]) -> None:
        """What an earlier run had left behind was ended."""
        self.parts["leftovers"] = Status("leftovers", "server", "stopped", since=time.time(), detail=f"ended {', '.join(names)}")
        self.written()
        del self.parts["leftovers"]

    def enter(self, phase: str) -> None:
        """The whole changed: starting, up, stopping, stopped, failed."""
        self.phase = phase
        self.written()

    def written(self) -> None:
        """Write the file and tell who watches."""
        record = {
            "pid": os.getpid(), "phase": self.phase, "namespace": self.namespace, "started": self.started,
            "env": str(self.home.env), "parts": [asdict(status) for status in self.parts.values()],
        }  # fmt: skip
        write_private(_state_file(self.home), json.dumps(record))
        self.on_change(self)


class Lock:
    """The home's lock: held by the supervisor until it ends, however it ends."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._path = home.run / "supervisor.lock"
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether it is ours."""
        return self._handle is not None

    def take(self) -> None:
        """``AlreadyRunning`` names who has it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.read(handle, 64).decode().strip() or "?"
            os.close(handle)
            raise AlreadyRunning(
                f"a platform is running in {self._home.folder} already (process {pid}); "
                f"`perennial down --home {self._home.folder}` ends it"
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle

    def release(self) -> None:
        """Let others have it."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None


def supervisor_of(folder: Path) -> int | None:
    """The process id of the supervisor of a home; None when there is none."""
    path = folder / "run" / "supervisor.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return int(os.read(handle, 64).decode().strip() or 0) or None
    else:
        return None
    finally:
        os.close(handle)


def read(folder: Path) -> dict[str, Any] | None:
    """The state of a home whose supervisor runs; None when nothing runs."""
    if supervisor_of(folder) is None:
        return None
    try:
        found: dict[str, Any] = json.loads(_state_file(Home(folder)).read_text())
    except (OSError, ValueError):
        return None
    return found


def _state_file(home: Home) -> Path:
    return home.run / "state.json"
