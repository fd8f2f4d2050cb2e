"""Where do the platform's first secrets come from?

They are generated once, into files only their owner can read. There is no default.
"""

import os
import secrets
from pathlib import Path

NAMES = ("admin-token", "service-key")


def ensure(folder: Path) -> dict[str, str]:
    """Every secret by name; those that are missing are made."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = {}
    for name in NAMES:
        path = folder / name
        if not path.is_file():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(36) + "\n")
        found[name] = path.read_text().strip()
    return found
