"""A real platform on the embedded stack, in a namespace of its own."""

import secrets as randomness
from collections.abc import AsyncIterator

import pytest
from perennial.runtime import secrets
from perennial.testing.stack import RunningStack

from services.trainer.config import TrainerConfig
from tests.trainer.platform import Platform


@pytest.fixture(scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory, stack: RunningStack) -> AsyncIterator[Platform]:
    """Registry, feature store and trainer."""
    home = tmp_path_factory.mktemp("trainer")
    secrets.ensure(home / "secrets")
    config = TrainerConfig.load(namespace=f"t{randomness.token_hex(4)}", secrets_dir=home / "secrets", data_dir=home)
    found = Platform(home, config)
    try:
        for name in ("registry", "feature", "trainer"):
            await found.start(name)
        yield found
    finally:
        await found.stop()
