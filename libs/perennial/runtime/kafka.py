"""How is the broker reached, and how do topics come to be?"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

from perennial.runtime.config import ServiceConfig
from perennial.topics import TOPICS, Topic

# What the broker answers for a topic that another process made meanwhile, and while no broker may take partitions.
TOPIC_EXISTS, INVALID_REPLICATION_FACTOR = 36, 38
PASSING = (0, TOPIC_EXISTS, INVALID_REPLICATION_FACTOR)
FENCED_S = 20.0


def connection_settings(config: ServiceConfig) -> dict[str, Any]:
    """Aiokafka's arguments for this configuration's broker, TLS and password."""
    settings: dict[str, Any] = {
        "bootstrap_servers": config.kafka_bootstrap.split(","),
        "client_id": f"perennial-{config.service}",
    }
    secure = config.kafka_ca_file is not None
    if secure:
        settings["ssl_context"] = ssl.create_default_context(cafile=str(config.kafka_ca_file))
    if config.kafka_username:
        settings |= {
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": config.kafka_username,
            "sasl_plain_password": config.kafka_password.get_secret_value(),
        }
    protocol = ("SASL_" if config.kafka_username else "") + ("SSL" if secure else "PLAINTEXT")
    return settings | {"security_protocol": protocol}


async def started(client: Any, deadline_s: float = 20.0) -> None:
    """Start an aiokafka client. It leaves connections open when its start is cut short, so it is never cut short."""
    task = asyncio.ensure_future(client.start())
    try:
        await asyncio.wait_for(asyncio.shield(task), deadline_s)
    except BaseException:
        await asyncio.shield(asyncio.wait([task], timeout=5.0))
        if task.done() and not task.cancelled():
            task.exception()
        task.cancel()
        raise


async def ensure_topics(config: ServiceConfig, topics: Iterable[Topic] = TOPICS) -> list[str]:
    """Create the topics that are missing; the bare names of those created. Existing ones are left as they are."""
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(request_timeout_ms=10_000, **connection_settings(config))
    try:
        await started(admin)
        present = set(await admin.list_topics())
        missing = [topic for topic in topics if config.prefixed(topic.name) not in present]
        wanted = [
            NewTopic(
                config.prefixed(topic.name), _partitions(config, topic), config.kafka_replication, topic_configs=_configs(topic)
            )
            for topic in missing
        ]
        await _create(admin, wanted)
    finally:
        await admin.close()
    return [topic.name for topic in missing]


async def _create(admin: Any, wanted: list[Any]) -> None:
    """Asks for as long as brokers are fenced: one that was slow to say that it lives is let in again within seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + FENCED_S
    while wanted:
        errors = (await admin.create_topics(wanted, timeout_ms=10_000)).topic_errors
        fenced = {error[0] for error in errors if error[1] == INVALID_REPLICATION_FACTOR}
        bad = [f"{error[0]}: {error[2] if len(error) > 2 else error[1]}" for error in errors if error[1] not in PASSING]
        if bad or (fenced and loop.time() > deadline):
            raise RuntimeError("topics could not be created: " + "; ".join(bad or ["all brokers are fenced"]))
        wanted = [topic for topic in wanted if topic.name in fenced]
        if wanted:
            await asyncio.sleep(0.5)


def _partitions(config: ServiceConfig, topic: Topic) -> int:
    if config.kafka_partitions is None or topic.partitions == 1:
        return topic.partitions
    return config.kafka_partitions


def _configs(topic: Topic) -> dict[str, str]:
    if topic.compacted:
        return {"cleanup.policy": "compact"}
    keep = -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)
    return {"cleanup.policy": "delete", "retention.ms": str(keep)}
