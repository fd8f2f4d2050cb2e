"""Where are the services, and who is calling? Read from arguments, the environment, then the file of ``perennial up``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from perennial.errors import Unauthenticated, Unavailable

SERVICES = ("registry", "feature", "trainer", "serving", "monitor", "explainer")
_FIRST_PORT = 50051
_MESSAGE_BYTES = 64 * 1024 * 1024
# Calls that may be repeated safely are: reads, and everything that carries a request or stream position. Predict is not
# among them unless it has a request_id, so it is left out here and retried by the caller's choice.
_RETRY = """{"methodConfig": [{"name": [
    {"service": "perennial.v1.RegistryService"}, {"service": "perennial.v1.FeatureService"},
    {"service": "perennial.v1.TrainerService"}, {"service": "perennial.v1.MonitorService"}],
  "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""


def read_env_file(path: Path) -> dict[str, str]:
    """The variables of an env file, one ``NAME=value`` a line; quotes around a value are dropped."""
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name.removeprefix("export ").strip(): value.strip().strip("'\"") for name, value in pairs}


def find_env_file(start: Path | None = None) -> Path | None:
    """``PERENNIAL_ENV_FILE``, or ``.perennial/env`` in this folder or the nearest one above that has it."""
    if named := os.environ.get("PERENNIAL_ENV_FILE"):
        return Path(named)
    here = (start or Path.cwd()).resolve()
    found = (folder / ".perennial" / "env" for folder in (here, *here.parents))
    return next((path for path in found if path.is_file()), None)


@dataclass(frozen=True)
class Connection:
    """Addresses of the services and the bearer token that every call carries."""

    addresses: Mapping[str, str]
    token: str = field(repr=False)
    ca: bytes | None = field(default=None, repr=False)

    @classmethod
    def find(
        cls, *, addresses: Mapping[str, str] | None = None, token: str | None = None, env_file: Path | str | None = None
    ) -> Connection:
        """The connection of this process: arguments, then the environment, then the env file, then the usual ports.

        Unauthenticated when no token is to be found: PERENNIAL_TOKEN, or the admin token of a local platform.
        """
        path = Path(env_file) if env_file else find_env_file()
        if env_file and not Path(env_file).is_file():
            raise Unavailable(f"{env_file} is not there; is the platform up? `perennial up` writes it")
        variables = {**(read_env_file(path) if path and path.is_file() else {}), **os.environ}
        usual = {name: f"127.0.0.1:{_FIRST_PORT + place}" for place, name in enumerate(SERVICES)}
        known = {name: variables.get(f"PERENNIAL_{name.upper()}_ADDRESS", usual[name]) for name in SERVICES}
        ca = variables.get("PERENNIAL_TLS_CA")
        return cls(
            {**known, **(addresses or {})},
            token or _token(variables, path),
            Path(ca).read_bytes() if ca else None,
        )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.token}"),)

    def options(self) -> list[tuple[str, Any]]:
        """Channel options: large messages, keepalive, retries of what may be repeated."""
        return [
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.service_config", _RETRY),
        ]

    def credentials(self) -> grpc.ChannelCredentials | None:
        """TLS when a CA is configured."""
        return None if self.ca is None else grpc.ssl_channel_credentials(self.ca)


def _token(variables: Mapping[str, str], env_file: Path | None) -> str:
    if given := variables.get("PERENNIAL_TOKEN") or variables.get("PERENNIAL_ADMIN_TOKEN"):
        return given
    folders = [variables.get("PERENNIAL_SECRETS_DIR"), env_file.parent / "secrets" if env_file else None]
    for folder in folders:
        if folder and (file := Path(folder) / "admin-token").is_file():
            return file.read_text().strip()
    raise Unauthenticated("no token: set PERENNIAL_TOKEN, or run from a folder whose platform `perennial up` started")
