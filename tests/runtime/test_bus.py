"""A send has a deadline, and a producer that missed one is replaced."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from perennial import topics
from perennial.errors import Unavailable
from perennial.runtime.bus import Bus, Outgoing
from perennial.runtime.kafka import connection_settings, ensure_topics

from tests.runtime.conftest import NAMESPACE, TrialConfig


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker that accepts connections and never answers."""
    await reader.read()
    writer.close()


async def test_a_broker_that_never_answers_costs_the_deadline(secrets_dir: Path) -> None:
    """The caller is told in time which broker it was; the producer's start goes on without it."""
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    bus = Bus(TrialConfig.load(secrets_dir=secrets_dir, kafka_bootstrap=place))
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with pytest.raises(Unavailable, match=place):
        await bus.produce(topics.MONITORING, key=b"k", value=b"", headers=[], deadline_s=0.5)
    assert loop.time() - begin < 2
    await bus.close()
    server.close()


async def test_a_producer_that_failed_is_replaced_and_the_next_send_arrives(
    secrets_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send that the old producer cannot do is told, and the new producer does the next one after the old one's time."""
    monkeypatch.setattr("perennial.runtime.bus.REQUEST_MS", 1000)
    config = TrialConfig.load(secrets_dir=secrets_dir, namespace=f"{NAMESPACE}b", kafka_partitions=2)
    await ensure_topics(config, [topics.MONITORING])
    bus = Bus(config)
    records = [Outgoing(b"k", b"", []) for _ in range(3)]
    assert await bus.produce_many(topics.MONITORING, records) == []
    old: Any = bus._producer
    old._sender.sender_task.cancel()  # what is sent now waits for ever
    loop = asyncio.get_running_loop()
    begin = loop.time()
    assert await bus.produce_many(topics.MONITORING, records, deadline_s=0.5) == [0, 1, 2]
    assert await bus.produce_many(topics.MONITORING, records) == []
    assert loop.time() - begin > 1.4, "the old producer's time was not awaited"
    assert bus._producer is not old
    await bus.close()


async def test_topics_are_made_once_as_the_table_says(secrets_dir: Path) -> None:
    """Existing topics are left alone; two processes may make them at once; partitions and retention are the table's."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    config = TrialConfig.load(secrets_dir=secrets_dir, namespace=f"{NAMESPACE}t", kafka_partitions=2)
    wanted = [topics.MODELS, topics.DEPLOYMENT_STATE, topics.AUDIT, topics.MODELS.dlq]
    made = await asyncio.gather(*(ensure_topics(config, wanted) for _ in range(3)))
    assert {name for names in made for name in names} == {topic.name for topic in wanted}
    assert await ensure_topics(config, wanted) == []
    admin = AIOKafkaAdminClient(**connection_settings(config))
    await admin.start()
    names = [config.prefixed(topic.name) for topic in wanted]
    found = await admin.describe_topics(names)
    assert {one["topic"]: len(one["partitions"]) for one in found} == dict(zip(names, (2, 1, 1, 2), strict=True))
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    settings = {one[3]: {entry[0]: entry[1] for entry in one[4]} for answer in answers for one in answer.resources}
    await admin.close()
    assert settings[names[0]]["retention.ms"] == str(30 * 24 * 3600 * 1000)
    assert settings[names[1]]["cleanup.policy"] == "compact"
    assert settings[names[2]]["retention.ms"] == "-1"
