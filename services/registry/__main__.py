"""The registry: ``python -m services.registry``."""

from pathlib import Path

from perennial.runtime.service import Runtime, run
from perennial.runtime.tokens import KnownKey
from perennial.v1 import registry_pb2

from services.registry.config import RegistryConfig
from services.registry.events import GROUP, HISTORY, EventHistory
from services.registry.service import RegistryService
from services.registry.store import History, Keys

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(runtime: Runtime) -> None:
    """Put the registry together."""
    keys = Keys(runtime.postgres)

    async def known_keys() -> list[KnownKey]:
        alive = await keys.alive(now=runtime.clock.now())
        return [KnownKey(key.digest, key.name, frozenset(key.roles), key.expires_at) for key in alive]

    runtime.api_keys(known_keys)
    runtime.add_servicer(
        RegistryService(runtime, runtime.config), registry_pb2.DESCRIPTOR.services_by_name["RegistryService"]
    )
    history = EventHistory(History(runtime.postgres))
    for topic in HISTORY:
        runtime.consume(topic, group=GROUP, handle=history.on_event)


if __name__ == "__main__":
    run(RegistryConfig, build, migrations=MIGRATIONS)
