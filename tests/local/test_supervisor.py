"""The supervisor: one a home, nothing outlives it, what dies comes back, all stops in order."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import termios
from pathlib import Path

import asyncpg
import psutil
from perennial.local.home import read_env
from perennial.local.stack import Servers

from tests.local.conftest import Start, Up, until


def command(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the CLI."""
    every = [sys.executable, "-m", "perennial.cli", *words]
    return subprocess.run(every, capture_output=True, text=True, timeout=100, env={**os.environ, **variables}, check=False)


def sleeper() -> "subprocess.Popen[bytes]":
    """A process that does nothing."""
    return subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)


async def test_a_second_up_says_who_has_the_home(shared: Up) -> None:
    """One supervisor a home: the second names the first and ends with status 1, in the foreground and detached."""
    for extra in ([], ["--detach"]):
        second = await asyncio.to_thread(command, "up", "--home", str(shared.folder), *extra)
        assert second.returncode == 1
        assert str(shared.folder) in second.stderr
        assert str(shared.child.pid) in second.stderr
    assert shared.child.alive()


async def test_what_is_secret_is_readable_by_its_owner_only(shared: Up) -> None:
    """Env files and secrets are 0600, and no password is on a command line."""
    files = [shared.folder / "env", shared.folder / "servers.env", *(shared.folder / "secrets").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((shared.folder / "secrets").stat().st_mode) == 0o700
    secrets = [path.read_text().strip() for path in (shared.folder / "secrets").iterdir()]
    words = " ".join(word for pid in shared.pids() for word in psutil.Process(pid).cmdline())
    assert not [secret for secret in secrets if secret in words]
    assert "DATABASE_URL" not in {name for name in shared.variables if "__" not in name}, "services get no superuser"


async def test_status_names_every_part(shared: Up) -> None:
    """``status --json`` tells state, address, pid and memory; status 1 where nothing runs."""
    answer = await asyncio.to_thread(command, "status", "--home", str(shared.folder), "--json")
    told = {part["name"]: part for part in json.loads(answer.stdout)["parts"]}
    assert set(told) == {"postgres", "kafka", "valkey", "s3", "registry"}
    assert {part["state"] for part in told.values()} == {"running"}
    assert all(part["memory_mb"] > 0 and part["address"] for part in told.values())
    nowhere = await asyncio.to_thread(command, "status", "--home", str(shared.folder / "nowhere"), "--json")
    assert (nowhere.returncode, json.loads(nowhere.stdout)["running"]) == (1, False)


async def test_logs_print_the_end_of_a_part(shared: Up) -> None:
    """``logs <part>`` prints its last lines, and names the logs there are when it does not know one."""
    answer = await asyncio.to_thread(command, "logs", "postgres", "--home", str(shared.folder))
    assert "ready to accept connections" in answer.stdout
    unknown = await asyncio.to_thread(command, "logs", "mysql", "--home", str(shared.folder))
    assert unknown.returncode == 1
    assert "postgres" in unknown.stderr


async def test_what_dies_comes_back_at_its_address(shared: Up) -> None:
    """A killed server and a killed service are started again on the same port, with their data; a second time after longer."""
    connection = await asyncpg.connect(Servers.given(read_env(shared.folder / "servers.env")).database_url)
    await connection.execute("create table kept (x int); insert into kept values (7)")
    before = shared.parts
    for name in ("postgres", "valkey", "registry"):
        os.killpg(before[name]["pid"], signal.SIGKILL)
    for name in ("postgres", "valkey", "registry"):
        after = await shared.running(name, restarts=1)
        assert after["address"] == before[name]["address"]
        assert after["pid"] != before[name]["pid"]
    again = await asyncpg.connect(Servers.given(read_env(shared.folder / "servers.env")).database_url)
    assert await again.fetchval("select x from kept") == 7
    await again.close()
    connection.terminate()
    os.killpg(shared.parts["valkey"]["pid"], signal.SIGKILL)
    await shared.running("valkey", restarts=2)
    pauses = [float(line.split()[-2]) for line in shared.output.splitlines() if line.startswith("valkey     restarting")]
    assert pauses[0] < pauses[1]


async def test_sigterm_stops_services_before_servers(folder: Path, up: Start) -> None:
    """The registry ends first, then S3, Valkey, Kafka, PostgreSQL, each by itself and in order; nothing is left."""
    run = await up(folder, "--only", "registry").is_up()
    pids = run.pids()
    assert await run.stop() == 0
    ends = [line.split()[0] for line in run.output.splitlines() if line.split()[1] == "stopped"]
    assert ends == ["registry", "s3", "valkey", "kafka", "postgres"]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not list((folder / "run").glob("*.pid"))
    assert "database system is shut down" in (folder / "logs" / "postgres.log").read_text()
    assert '"message": "stopped"' in (folder / "logs" / "registry.log").read_text()


async def test_kill_9_leaves_no_orphan_and_the_next_up_works(folder: Path, up: Start) -> None:
    """The kernel ends the children of a killed supervisor; data, ports and passwords survive."""
    run = await up(folder, "--only", "registry").is_up()
    pids, before = run.pids(), run.variables
    os.kill(run.child.pid, signal.SIGKILL)
    await run.ended()
    await until(lambda: not [pid for pid in pids if psutil.pid_exists(pid)], 40.0)
    run = await up(folder, "--only", "registry").is_up()
    assert run.variables == before


async def test_leftovers_that_are_ours_are_ended_and_others_are_not(folder: Path, up: Start, tmp_path: Path) -> None:
    """An orphan known by pid, start and command line is ended; a pid that is somebody else's by now is left alone."""
    (folder / "run").mkdir(parents=True)
    orphan, stranger = sleeper(), sleeper()
    try:
        for name, process, started in (("valkey", orphan, 0.0), ("s3", stranger, 500.0)):
            record = {"pid": process.pid, "started": psutil.Process(process.pid).create_time() - started, "program": "/bin/sleep"}
            (folder / "run" / f"{name}.pid").write_text(json.dumps(record))
        (folder / "run" / "kafka.pid").write_text("not a pid file")
        run = await up(folder, "--only", "stack").is_up()
        assert orphan.wait(5) == -signal.SIGTERM
        assert stranger.poll() is None
        assert "leftovers  stopped    ended valkey" in run.output
    finally:
        for process in (orphan, stranger):
            process.kill()
            process.wait()


async def test_a_stale_postmaster_lock_does_not_stop_the_next_start(folder: Path, up: Start) -> None:
    """After a crash the lock file may name a process that is somebody else's now."""
    run = await up(folder, "--only", "stack", **_given("KAFKA", "REDIS", "S3")).is_up()
    lock = folder / "postgres" / "data" / "postmaster.pid"
    text = lock.read_text()
    await run.stop()
    lock.write_text("\n".join([str(os.getpid()), *text.splitlines()[1:]]) + "\n")
    await up(folder, "--only", "stack", **_given("KAFKA", "REDIS", "S3")).is_up()


async def test_a_home_that_is_closed_to_others(tmp_path: Path, up: Start) -> None:
    """PostgreSQL as another user finds its data elsewhere when the home's folders let nobody pass; we see it in its command."""
    tmp_path.chmod(0o700)
    run = await up(tmp_path / "home", "--only", "stack", **_given("KAFKA", "REDIS", "S3")).is_up()
    words = psutil.Process(run.parts["postgres"]["pid"]).cmdline()
    data = Path(words[words.index("-D") + 1])
    inside = data.is_relative_to(tmp_path)
    await run.stop()
    assert inside == (os.geteuid() != 0)
    if not inside:
        shutil.rmtree(data.parent)


async def test_taken_ports_are_avoided(folder: Path, up: Start) -> None:
    """A port that somebody took since the last run is not fought for; the others stay."""
    given = _given("DATABASE", "S3", "KAFKA")
    run = await up(folder, "--only", "stack", **given).is_up()
    port = int(run.parts["valkey"]["address"].rpartition(":")[2])
    await run.stop()
    thief = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    async with thief:
        run = await up(folder, "--only", "stack", **given).is_up()
        assert int(run.parts["valkey"]["address"].rpartition(":")[2]) != port


async def test_wrong_settings_are_told_and_not_tried_again(shared: Up, folder: Path, up: Start) -> None:
    """A service whose settings are wrong fails once, with the place where it says why; the servers stay up."""
    servers = read_env(shared.folder / "servers.env")
    run = await up(folder, "--only", "registry", "--namespace", "wrong", PERENNIAL_REGISTRY__POOL_SIZE="0", **servers).is_up()
    failed = await until(lambda: run.parts["registry"]["state"] == "failed" and run.parts["registry"])
    assert (failed["restarts"], "settings are wrong" in failed["detail"]) == (0, True)
    assert "PERENNIAL_REGISTRY__POOL_SIZE" in (folder / "logs" / "registry.log").read_text()
    assert set(run.parts) == {"registry"}


async def test_a_given_address_replaces_a_part(folder: Path, up: Start) -> None:
    """What the environment names is not started, and the env file passes it on."""
    given = _given("DATABASE", "KAFKA", "S3")
    run = await up(folder, "--only", "stack", **given).is_up()
    assert set(run.parts) == {"valkey"}
    assert run.variables["PERENNIAL_KAFKA__BOOTSTRAP"] == given["PERENNIAL_KAFKA__BOOTSTRAP"]
    assert not (folder / "kafka").exists()


async def test_s3_without_its_keys_is_refused(folder: Path, up: Start) -> None:
    """An address alone is not enough."""
    run = up(folder, "--only", "stack", S3_ENDPOINT="http://127.0.0.1:1")
    assert await run.ended() == 1
    assert "S3_ACCESS_KEY" in run.output


async def test_ctrl_c_on_a_terminal_stops_everything(folder: Path) -> None:
    """On a terminal there is one live table; Ctrl-C reaches the supervisor alone, which stops the parts and ends with 0."""
    screen, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ON_A_TERMINAL, "up", "--home", str(folder), "--only", "stack",
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        env={**os.environ, **_given("DATABASE", "KAFKA", "S3")},
    )  # fmt: skip
    os.close(terminal)
    os.set_blocking(screen, False)
    shown = bytearray()

    def seen(text: bytes) -> bool:
        with contextlib.suppress(BlockingIOError, OSError):
            shown.extend(os.read(screen, 65_536))
        return text in shown

    await until(lambda: seen(b"up after"))
    os.write(screen, b"\x03")
    await until(lambda: seen(b"stopped"))
    reading = asyncio.create_task(until(lambda: seen(b"never") or process.returncode is not None))
    assert await asyncio.wait_for(process.wait(), 30) == 0
    await reading
    os.close(screen)
    assert "┏".encode() in shown
    assert "Ready to accept connections" in (folder / "logs" / "valkey.log").read_text()


_ON_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from perennial.cli.app import main
main()
"""


def _given(*names: str) -> dict[str, str]:
    """Addresses of servers nobody looks at when only the stack is started."""
    every = {
        "KAFKA": {"PERENNIAL_KAFKA__BOOTSTRAP": "127.0.0.1:1"},
        "DATABASE": {"DATABASE_URL": "postgresql://nobody:x@127.0.0.1:1/x"},
        "REDIS": {"REDIS_URL": "redis://127.0.0.1:1"},
        "S3": {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"},
    }
    return {name: value for each in names for name, value in every[each].items()}
