"""Who would notice if somebody rewrote a whole audit chain?

The heads of the chain are signed and published to ``perennial.audit`` as it grows; a chain rewritten in the database
no longer fits the heads that others keep.
"""

import asyncio
from typing import Any

from perennial.runtime import telemetry
from perennial.runtime.bus import Bus
from perennial.runtime.events import Event, Undecodable, decode
from perennial.runtime.kafka import started
from perennial.runtime.leases import Leases
from perennial.runtime.postgres import Postgres
from perennial.runtime.tokens import ServiceKey
from perennial.topics import AUDIT
from perennial.v1 import events_pb2

EVERY_S = 10.0
READ_S = 5.0
_LOG = telemetry.log(__name__)


def _signed(service: str, sequence: int, digest: str) -> bytes:
    return f"perennial audit head\n{service}\n{sequence}\n{digest}".encode()


async def publish(postgres: Postgres, bus: Bus, key: ServiceKey, leases: Leases) -> None:
    """Publish the head whenever it has moved, every ten seconds at most, from one process of the service."""
    async with leases.held("audit heads", 3 * EVERY_S) as lease:
        while True:
            async with postgres.transaction() as transaction:
                await transaction.check(lease)
                head = await transaction.fetchrow("select n, hash, published_n from audit_head for update")
                if head is not None and head["n"] > head["published_n"]:
                    await transaction.publish(_event(bus.source, key, head["n"], head["hash"].hex()))
                    await transaction.execute("update audit_head set published_n = n")
            await asyncio.sleep(EVERY_S)


def _event(service: str, key: ServiceKey, sequence: int, digest: str) -> Event:
    signature = key.signature(_signed(service, sequence, digest))
    head = events_pb2.AuditHead(service=service, sequence=sequence, hash=digest, signature=signature)
    return Event(AUDIT, service, head, subject=service, aggregate=f"audit/{service}", aggregate_version=sequence)


async def read(bus: Bus, key: ServiceKey) -> dict[int, bytes]:
    """The published heads of this service by row number; none when Kafka does not answer."""
    consumer = bus.consumer([AUDIT], group=None)
    heads: dict[int, bytes] = {}
    try:
        async with asyncio.timeout(READ_S):
            await started(consumer)
            ends = await consumer.end_offsets(consumer.assignment())
            for partition, end in ends.items():
                while await consumer.position(partition) < end:
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        for record in records:
                            _note(heads, record, bus.source, key)
    except Exception as error:  # noqa: BLE001 the chain itself is still checked
        _LOG.warning("the published heads could not be read", error=repr(error))
    finally:
        await consumer.stop()
    return heads


def _note(heads: dict[int, bytes], record: Any, service: str, key: ServiceKey) -> None:
    try:
        head = decode(dict(record.headers), record.value or b"")
    except Undecodable:
        return
    if not isinstance(head, events_pb2.AuditHead) or head.service != service:
        return
    if key.verifies(_signed(service, head.sequence, head.hash), head.signature):
        heads.setdefault(head.sequence, bytes.fromhex(head.hash))
