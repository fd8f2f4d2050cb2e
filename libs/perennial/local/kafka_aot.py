"""How does Kafka come to start in a second? ``python -m perennial.local.kafka_aot`` records an ahead-of-time cache.

A throw-away broker does a little work and writes the cache at its end, about eleven seconds in all, once a user.
The supervisor runs this in the background, with low priority, after the first start.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path

from perennial.local.home import Home, cache_folder
from perennial.local.jars import locked
from perennial.local.kafka import Kafka, aot_cache


async def record(cache: Path) -> None:
    """Record the cache unless it is there; only one process at a time does."""
    target = aot_cache(cache)
    with locked(cache / "record.lock"):
        if target.is_file():
            return
        folder = _fresh_folder(cache)
        try:
            broker = Kafka(Home.at(folder))
            broker.recording = folder / "kafka.aot"
            broker.chosen_port = broker.home.port("kafka", 0)
            address = await broker.start()
            await _exercise(address)
            broker.grace_s = 60.0  # type: ignore[misc] # writing the cache takes its time
            await broker.stop()
            broker.recording.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _fresh_folder(cache: Path) -> Path:
    """A folder to record in; those of recordings that were broken off are removed. We hold the lock."""
    for abandoned in cache.glob("aot-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="aot-", dir=cache))


async def _exercise(address: str) -> None:
    """What a broker usually does first, so that its classes are in the cache."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic("t", 4, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True)
    await producer.start()
    for number in range(200):
        await producer.send_and_wait("t", b"x", key=b"%d" % number)
    await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id="g", auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition("t", number) for number in range(4)])
    await consumer.getmany(timeout_ms=500)
    await consumer.commit()
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(record(cache_folder()))
