"""What does a start know when nothing outside answers?

Deployments with their variants and signatures, and the API keys, as they were last: one file, signed with the platform's
key, replaced whole.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from perennial.errors import DataLoss, FailedPrecondition, NotFound
from perennial.runtime.tokens import KnownKey

from services.serving.domain import plain
from services.serving.domain.deployment import Deployment

_FORMAT = 1


class Snapshot:
    """The file ``snapshot.json`` of a folder."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self._path = folder / "snapshot.json"
        self._key = key

    def write(self, deployments: Iterable[Deployment], keys: Iterable[KnownKey]) -> None:
        """Replace the file."""
        known = {"deployments": [asdict(d) for d in deployments], "keys": [_key_to(key) for key in keys]}
        body = orjson.dumps({"format": _FORMAT, "written_at": time.time(), **known})
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._path.with_suffix(".draft")
        draft.write_bytes(self._signature(body) + b"\n" + body)
        draft.chmod(0o600)
        draft.replace(self._path)

    def read(self, *, most_age_s: float) -> tuple[list[Deployment], list[KnownKey], float]:
        """Deployments, API keys and the file's age.

        NotFound; DataLoss when the signature is wrong; FailedPrecondition when it is too old.
        """
        try:
            signature, _, body = self._path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            raise NotFound("there is no snapshot yet") from None
        if not hmac.compare_digest(signature, self._signature(body)):
            raise DataLoss("the snapshot's signature is wrong: it is not used")
        data = orjson.loads(body)
        age = time.time() - data["written_at"]
        if data["format"] != _FORMAT or age > most_age_s:
            raise FailedPrecondition(f"the snapshot is {age / 3600:.1f} hours old and older than {most_age_s / 3600:g}")
        return [plain.deployment(item) for item in data["deployments"]], [_key_from(item) for item in data["keys"]], age

    def _signature(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, sha256).hexdigest().encode()



def _key_to(key: KnownKey) -> dict[str, Any]:
    ends = key.expires_at.isoformat() if key.expires_at else None
    return {"digest": key.digest, "name": key.name, "roles": sorted(key.roles), "expires_at": ends}


def _key_from(body: dict[str, Any]) -> KnownKey:
    ends = datetime.fromisoformat(body["expires_at"]) if body["expires_at"] else None
    return KnownKey(body["digest"], body["name"], frozenset(body["roles"]), ends)
