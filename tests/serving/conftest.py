"""A registry and a serving process in a namespace of the module."""

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from perennial.testing.platform import Platform

from tests.serving.world import World


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(platform: Platform) -> AsyncIterator[World]:
    """The services under test."""
    registry = await platform.service("registry")
    serving = await platform.service("serving")
    made = World(platform, registry, serving)
    yield made
    await made.close()


@pytest.fixture
def model() -> str:
    """A model's name that no other test uses."""
    return f"m-{secrets.token_hex(4)}"
