"""Two corrections of Faust 0.15.3 (private attributes, so the version is pinned).

An idle partition delays busy ones by the fetch wait (aiokafka keeps one fetch a broker in flight), and what was
acknowledged is committed when partitions are revoked, so that less is read again.
"""

import asyncio
from typing import Any

from perennial.runtime import telemetry

_LOG = telemetry.log(__name__)
_DONE: list[bool] = []


def apply(fetch_wait_ms: int = 50, commit_s: float = 5.0) -> None:
    """Patch Faust once in this process."""
    if _DONE:
        return
    from faust.transport import consumer
    from faust.transport.drivers import aiokafka

    create = aiokafka.AIOKafkaConsumerThread._create_worker_consumer  # noqa: SLF001 no public setting for it
    revoked = consumer.Consumer.on_partitions_revoked

    def with_wait(self: Any, transport: Any) -> Any:
        made = create(self, transport)
        made._fetch_max_wait_ms = fetch_wait_ms  # noqa: SLF001
        return made

    async def committed(self: Any, partitions: Any) -> Any:
        if partitions:
            try:
                await asyncio.wait_for(self.commit(), commit_s)
            except Exception as error:  # noqa: BLE001 the rows are read again, and recognised
                _LOG.warning("commit on revoke failed", error=repr(error))
        return await revoked(self, partitions)

    aiokafka.AIOKafkaConsumerThread._create_worker_consumer = with_wait  # type: ignore[method-assign] # noqa: SLF001
    consumer.Consumer.on_partitions_revoked = committed  # type: ignore[method-assign]
    _DONE.append(True)
