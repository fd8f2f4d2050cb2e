"""What a platform gets on its servers, and that a dropped namespace leaves nothing."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from perennial.local import provision
from perennial.local.home import Home, read_env
from perennial.local.services import TABLE, Ports
from perennial.local.stack import Servers
from perennial.testing.stack import RunningStack
from perennial.topics import TOPICS
from redis.asyncio import Redis


@pytest.fixture
def chosen() -> list[Any]:
    """Services and ports."""
    return [(entry, Ports(entry.port, entry.port + 1000)) for entry in TABLE]


async def topics_of(servers: Servers, namespace: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap)
    await admin.start()
    try:
        return {name for name in await admin.list_topics() if name.startswith(f"{namespace}.")}
    finally:
        await admin.close()


async def test_again_gives_the_same_and_drop_leaves_nothing(stack: RunningStack, tmp_path: Path, chosen: list[Any]) -> None:
    """Provisioning may be repeated; after the drop no schema, role, topic, bucket or key of the namespace is there."""
    servers, home = stack.servers, Home.at(tmp_path / "home")
    settings = {"PERENNIAL_KAFKA_PARTITIONS": "1"}
    first = await provision.provision(servers, home, services=chosen, namespace="twice", extra=settings)
    again = await provision.provision(servers, home, services=chosen, namespace="twice", extra=settings)
    assert first == again == read_env(home.env)
    assert await topics_of(servers, "twice") == {f"twice.{topic.name}" for topic in TOPICS}
    async with Redis.from_url(servers.redis_url) as redis:
        await redis.set("twice:a", 1)
        await redis.set("twicer:a", 1, ex=60)
        own = await asyncpg.connect(first["PERENNIAL_SERVING__DATABASE_URL"])
        await own.execute("create table t (x int)")

        await provision.drop(servers, "twice")

        assert not await redis.exists("twice:a")
        assert await redis.exists("twicer:a"), "another namespace with a longer name keeps its keys"
    own.terminate()
    assert not await topics_of(servers, "twice")
    admin = await asyncpg.connect(servers.database_url)
    try:
        assert not await admin.fetchval("select count(*) from pg_namespace where starts_with(nspname, 'twice_')")
        assert not await admin.fetchval("select count(*) from pg_roles where starts_with(rolname, 'perennial_twice_')")
    finally:
        await admin.close()
    assert not provision._objects(servers).bucket_exists(bucket_name="twice-ml-models")


async def test_without_a_namespace_nothing_is_dropped(stack: RunningStack) -> None:
    """The empty name would mean everything."""
    with pytest.raises(ValueError, match="named namespace"):
        await provision.drop(stack.servers, "")


def test_a_url_keeps_its_place_for_another_user() -> None:
    """User and password change, host, port, database and options stay."""
    url = provision.with_user("postgresql://postgres:old@db.example:5433/x?sslmode=require", "role", "a/b")
    assert url == "postgresql://role:a%2Fb@db.example:5433/x?sslmode=require"


async def test_somebody_elses_server_where_we_may_make_no_roles(stack: RunningStack, tmp_path: Path, chosen: list[Any]) -> None:
    """With a DATABASE_URL whose user may make no roles, each service still gets a schema of its own."""
    admin = await asyncpg.connect(stack.servers.database_url)
    try:
        await admin.execute("create role plain login password 'plain'; grant create on database perennial to plain")
        url = provision.with_user(stack.servers.database_url, "plain", "plain")
        servers = Servers(**{**vars(stack.servers), "database_url": url})
        home = Home.at(tmp_path / "home")
        settings = {"PERENNIAL_KAFKA_PARTITIONS": "1"}
        values = await provision.provision(servers, home, services=chosen[:2], namespace="poor", extra=settings)
        assert values["PERENNIAL_FEATURE__DATABASE_URL"] == url
        assert await admin.fetchval("select count(*) from pg_namespace where starts_with(nspname, 'poor_')") == 2
    finally:
        await provision.drop(stack.servers, "poor")
        await admin.execute("drop owned by plain; drop role plain")
        await admin.close()
