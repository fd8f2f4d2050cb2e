"""Which servers does a platform stand on, and where are they?

``Servers`` are the addresses with their administrators' credentials. ``Stack`` runs the ones nobody gave an address
for: any part is replaced by naming it in the environment.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from perennial.local.home import Home
from perennial.local.kafka import Kafka
from perennial.local.part import Part, PartFailed
from perennial.local.postgres import Postgres
from perennial.local.s3 import S3
from perennial.local.valkey import Valkey

_NAMES = {
    "kafka_bootstrap": ("PERENNIAL_KAFKA__BOOTSTRAP", "PERENNIAL_KAFKA_BOOTSTRAP"),
    "database_url": ("DATABASE_URL", "PERENNIAL_DATABASE_URL"),
    "redis_url": ("REDIS_URL", "PERENNIAL_REDIS_URL"),
    "s3_endpoint": ("S3_ENDPOINT", "PERENNIAL_S3_ENDPOINT"),
    "s3_access_key": ("S3_ACCESS_KEY", "PERENNIAL_S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    "s3_secret_key": ("S3_SECRET_KEY", "PERENNIAL_S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"),
}
ADDRESS_VARIABLES = tuple(name for names in _NAMES.values() for name in names)
"""Every variable that names a server; taken out of the environment of services, which read the env file instead."""


@dataclass(frozen=True)
class Servers:
    """Addresses and credentials; an empty field is a server that is not there (yet)."""

    kafka_bootstrap: str = ""
    database_url: str = ""
    redis_url: str = ""
    s3_endpoint: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""

    @classmethod
    def given(cls, variables: Mapping[str, str] | None = None) -> "Servers":
        """The servers that the environment (or an env file's variables) names."""
        variables = os.environ if variables is None else variables

        def first(names: tuple[str, ...]) -> str:
            return next((variables[name] for name in names if variables.get(name)), "")

        return cls(**{field: first(names) for field, names in _NAMES.items()})

    def variables(self) -> dict[str, str]:
        """As variables of an env file."""
        return {names[0]: value for field, names in _NAMES.items() if (value := getattr(self, field))}


class Stack:
    """The servers of one home, in the order they are started."""

    def __init__(self, home: Home, given: Servers) -> None:
        self.home = home
        self.servers = given
        wanted: list[Part] = []
        if not given.database_url:
            wanted.append(Postgres(home))
        if not given.kafka_bootstrap:
            wanted.append(Kafka(home))
        if not given.redis_url:
            wanted.append(Valkey(home))
        if not given.s3_endpoint:
            wanted.append(S3(home))
        elif not (given.s3_access_key and given.s3_secret_key):
            raise PartFailed("s3: S3_ENDPOINT is given without its keys; set S3_ACCESS_KEY and S3_SECRET_KEY too")
        self.parts: tuple[Part, ...] = tuple(wanted)

    def started(self, part: Part, address: str) -> None:
        """Note where a part is."""
        if isinstance(part, Kafka):
            self.servers = replace(self.servers, kafka_bootstrap=address)
        elif isinstance(part, Postgres):
            self.servers = replace(self.servers, database_url=address)
        elif isinstance(part, Valkey):
            self.servers = replace(self.servers, redis_url=address)
        elif isinstance(part, S3):
            self.servers = replace(
                self.servers, s3_endpoint=address, s3_access_key=part.access_key, s3_secret_key=part.secret_key
            )
