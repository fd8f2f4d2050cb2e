"""What does a platform need on its servers before the first service starts?

A schema and a role a service, topics, a bucket, secrets, and the env file that names them all. Everything may be run
again; a namespace can be dropped as a whole.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from perennial.local.home import Home, write_env
from perennial.local.services import TABLE, Entry, Ports
from perennial.local.stack import Servers

BUCKET = "ml-models"
_DEADLINE_S = 60.0
_QUERY_S = 20.0
_ROLE = "login nosuperuser nocreatedb nocreaterole noreplication connection limit 80"


async def provision(
    servers: Servers,
    home: Home,
    *,
    services: Iterable[tuple[Entry, Ports]],
    namespace: str = "",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Create what a platform in ``namespace`` needs and write ``home.env``; its variables."""
    from perennial.runtime import secrets

    secrets.ensure(home.secrets)
    chosen = list(services)
    databases, _, _ = await asyncio.wait_for(
        asyncio.gather(
            _databases(servers, home, [entry.name for entry, _ in chosen if entry.has_database], namespace),
            _topics(servers, namespace, extra or {}),
            asyncio.to_thread(_bucket, servers, namespace),
        ),
        _DEADLINE_S,
    )
    values = {name: value for name, value in servers.variables().items() if name != "DATABASE_URL"}
    values |= {"PERENNIAL_SECRETS_DIR": str(home.secrets)} | databases
    if namespace:
        values["PERENNIAL_NAMESPACE"] = namespace
    for entry, ports in chosen:
        values |= ports.variables(entry.name)
        values[f"PERENNIAL_{entry.name.upper()}__DATA_DIR"] = str(home.folder / "data" / entry.name)
    values |= extra or {}
    write_env(home.env, values)
    return values


async def drop(servers: Servers, namespace: str) -> None:
    """Remove everything of a namespace: schemas, roles, topics, groups, objects and keys."""
    if not namespace:
        raise ValueError("only a named namespace can be dropped")
    await asyncio.wait_for(
        asyncio.gather(
            _drop_schemas(servers, namespace),
            _drop_topics(servers, namespace),
            _drop_keys(servers, namespace),
            asyncio.to_thread(_drop_bucket, servers, namespace),
        ),
        _DEADLINE_S,
    )


def schema_of(service: str, namespace: str) -> str:
    """A service's schema, as ``ServiceConfig.schema_name`` has it."""
    return f"{namespace}_{service}".replace("-", "_") if namespace else service


def bucket_of(namespace: str) -> str:
    """The bucket, as ``ServiceConfig.bucket_name`` has it."""
    return f"{namespace}-{BUCKET}" if namespace else BUCKET


def _role_of(schema: str) -> str:
    return f"perennial_{schema}"


def with_user(url: str, user: str, password: str) -> str:
    """The same database for another user."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    who = ":".join(quote(word, safe="") for word in (user, password))
    return urlunsplit(parts._replace(netloc=f"{who}@{place}"))


async def _connected(servers: Servers) -> Any:
    import asyncpg

    return await asyncpg.connect(servers.database_url, timeout=10.0, command_timeout=_QUERY_S)


async def _databases(servers: Servers, home: Home, services: list[str], namespace: str) -> dict[str, str]:
    """One schema and one role a service; the URL each connects with."""
    connection = await _connected(servers)
    try:
        may = await connection.fetchrow("select rolsuper, rolcreaterole from pg_roles where rolname = current_user")
        urls = {}
        for service in services:
            schema = schema_of(service, namespace)
            url = servers.database_url
            if may["rolsuper"] or may["rolcreaterole"]:
                url = await _role(connection, home, servers.database_url, schema, superuser=may["rolsuper"])
            else:  # somebody else's server, and we may not make roles: schemas apart is what there is
                await connection.execute(f'create schema if not exists "{schema}"')
            urls[f"PERENNIAL_{service.upper()}__DATABASE_URL"] = url
        return urls
    finally:
        await connection.close(timeout=5.0)


async def _role(connection: Any, home: Home, url: str, schema: str, *, superuser: bool) -> str:
    """A role that owns its schema and nothing else; its URL."""
    role, password = _role_of(schema), home.secret(f"database-{schema}")
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext($1))", role)
        known = await connection.fetchval("select 1 from pg_roles where rolname = $1", role)
        # The password is of our own making: letters, digits, dash and underscore.
        await connection.execute(f"{'alter' if known else 'create'} role \"{role}\" {_ROLE} password '{password}'")
        if not superuser:
            await connection.execute(f'grant "{role}" to current_user')
        await connection.execute(f'create schema if not exists "{schema}" authorization "{role}"')
        await connection.execute(f'alter role "{role}" set search_path = "{schema}"')
    return with_user(url, role, password)


async def _drop_schemas(servers: Servers, namespace: str) -> None:
    """By exact names: ``a_b_registry`` may be the namespace a-b's or a's."""
    connection = await _connected(servers)
    try:
        for entry in TABLE:
            schema = schema_of(entry.name, namespace)
            role = _role_of(schema)
            await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", role)
            await connection.execute(f'drop schema if exists "{schema}" cascade')
            if await connection.fetchval("select 1 from pg_roles where rolname = $1", role):
                await connection.execute(f'drop owned by "{role}"')
                await connection.execute(f'drop role "{role}"')
    finally:
        await connection.close(timeout=5.0)


async def _topics(servers: Servers, namespace: str, extra: Mapping[str, str]) -> None:
    from perennial.runtime.config import ServiceConfig
    from perennial.runtime.kafka import ensure_topics

    partitions = extra.get("PERENNIAL_KAFKA_PARTITIONS")
    settings: dict[str, Any] = {"kafka_partitions": int(partitions)} if partitions else {}
    await ensure_topics(ServiceConfig(kafka_bootstrap=servers.kafka_bootstrap, namespace=namespace, **settings))


async def _drop_topics(servers: Servers, namespace: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap.split(","), request_timeout_ms=15_000)
    await admin.start()
    try:
        topics = [topic for topic in await admin.list_topics() if topic.startswith(f"{namespace}.")]
        if topics:
            await admin.delete_topics(topics, timeout_ms=15_000)
    finally:
        await admin.close()


async def _drop_keys(servers: Servers, namespace: str) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(servers.redis_url, socket_timeout=5.0) as redis:
        keys = [key async for key in redis.scan_iter(match=f"{namespace}:*", count=1000)]
        for start in range(0, len(keys), 1000):
            await redis.unlink(*keys[start : start + 1000])


def _objects(servers: Servers) -> Any:
    import urllib3
    from minio import Minio

    place = urlsplit(servers.s3_endpoint)
    return Minio(
        endpoint=place.netloc, access_key=servers.s3_access_key, secret_key=servers.s3_secret_key, secure=place.scheme == "https",
        region="us-east-1", http_client=urllib3.PoolManager(timeout=urllib3.Timeout(10.0), retries=urllib3.Retry(2)),
    )  # fmt: skip


def _bucket(servers: Servers, namespace: str) -> None:
    client, bucket = _objects(servers), bucket_of(namespace)
    if not client.bucket_exists(bucket_name=bucket):
        client.make_bucket(bucket_name=bucket)


def _drop_bucket(servers: Servers, namespace: str) -> None:
    client, bucket = _objects(servers), bucket_of(namespace)
    if client.bucket_exists(bucket_name=bucket):
        for item in list(client.list_objects(bucket_name=bucket, recursive=True)):
            client.remove_object(bucket_name=bucket, object_name=item.object_name)
        client.remove_bucket(bucket_name=bucket)
