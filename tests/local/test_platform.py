"""The fixtures other tests stand on."""

import asyncpg
import pytest
from perennial.testing.platform import Platform
from perennial.testing.plugin import StartService


async def test_a_service_of_the_namespace_survives_kill_and_restart(service_process: StartService) -> None:
    """A service runs as a process, is gone after kill -9, and comes back at the same address."""
    registry = await service_process("registry")
    address, pid = registry.address, registry.pid
    await registry.kill()
    assert not registry.alive
    await registry.start()
    assert registry.alive
    assert (registry.address, registry.pid != pid) == (address, True)


async def test_a_role_reaches_its_own_schema_only(platform: Platform) -> None:
    """The role of one service can neither read another's tables nor make schemas."""
    own = await platform.pool("registry")
    await own.execute("create table mine (x int)")
    assert await own.fetchval("select current_schema()") == f"{platform.namespace}_registry"
    other = await platform.pool("monitor")
    for refused in (f'select * from "{platform.namespace}_registry".mine', "create schema more", "create table public.x ()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await other.fetch(refused)
