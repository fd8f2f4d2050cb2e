"""How is a child process started so that it cannot outlive us, and how is one known again after a crash?

A child leads a session of its own (Ctrl-C of the terminal reaches the supervisor alone), gets a signal from the kernel
when the thread that started it dies (Linux), and leaves a pid file with its start time and command line. A pid alone
proves nothing: it may be somebody else's by now.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from perennial.local.home import write_private

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 16 * 1024 * 1024
_SAME_START_S = 2.0  # psutil derives the start from the boot time, which follows corrections of the clock


@dataclass(frozen=True)
class Identity:
    """Which process it was."""

    pid: int
    started: float
    program: str
    signal: int = signal.SIGTERM

    @classmethod
    def read(cls, path: Path) -> "Identity | None":
        """What a pid file says; None when it says nothing of use."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def running(self) -> psutil.Process | None:
        """The process if it is still the same one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_S and self.program in process.cmdline()
        except psutil.Error:
            return None
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None


@dataclass
class Child:
    """A running child process; made by :func:`spawn`, from the main thread."""

    name: str
    process: "subprocess.Popen[bytes]"
    pid_file: Path
    stop_signal: signal.Signals

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self.process.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    async def ended(self) -> int:
        """Wait for its end; the exit status (negative: the signal)."""
        if self.process.poll() is None:
            loop = asyncio.get_running_loop()
            over = asyncio.Event()
            handle = os.pidfd_open(self.pid)
            loop.add_reader(handle, over.set)
            try:
                await over.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        return self.process.wait()

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, kill it after ``grace_s``; whatever is left of its group goes too."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended(), grace_s)
        self.kill()
        await self.ended()
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill its whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def spawn(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    pid_file: Path,
    env: Mapping[str, str],
    cwd: Path,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    niceness: int = 0,
) -> Child:
    """Start ``command``; its output goes to ``log``. ``stop_signal`` is sent by ``stop`` and by the kernel at our death."""
    words = [str(word) for word in command]
    with _log_file(log) as output:
        process = subprocess.Popen(  # noqa: S603 the command is ours
            words,
            env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=_in_child(stop_signal, user, niceness),  # noqa: PLW1509 PDEATHSIG has no other way
        )  # fmt: skip
    started = psutil.Process(process.pid).create_time()
    write_private(pid_file, json.dumps(asdict(Identity(process.pid, started, words[0], int(stop_signal)))))
    return Child(name, process, pid_file, stop_signal)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def clear_leftovers(folder: Path, *, grace_s: float = 8.0) -> list[str]:
    """End what an earlier supervisor of this home left running and drop its pid files; the names of what was ended."""
    found = {path.stem: Identity.read(path) for path in sorted(folder.glob("*.pid"))}
    orphans = {name: identity.running() for name, identity in found.items() if identity is not None}
    for name, process in orphans.items():
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.send_signal(getattr(found[name], "signal", signal.SIGTERM))
    psutil.wait_procs([process for process in orphans.values() if process], timeout=grace_s)
    for process in orphans.values():
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs([process for process in orphans.values() if process], timeout=grace_s)
    for path in folder.glob("*.pid"):
        path.unlink(missing_ok=True)
    return [name for name, process in orphans.items() if process is not None]


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    with path.open("ab") as file:
        yield file


def _in_child(death_signal: int, user: str | None, niceness: int) -> Callable[[], None]:
    """What runs between fork and exec; everything it needs is looked up before the fork."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    account = pwd.getpwnam(user) if user else None
    parent = os.getpid()

    def prepare() -> None:
        if niceness:
            os.nice(niceness)
        if account is not None:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)  # after setuid, which clears it
            if os.getppid() != parent:
                os._exit(1)

    return prepare
