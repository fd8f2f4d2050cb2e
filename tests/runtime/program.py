"""A whole program on the runtime, for tests that kill one: publishes as many events as its environment says."""

import os
from typing import Any

from perennial import topics
from perennial.runtime.config import ServiceConfig
from perennial.runtime.events import Event
from perennial.runtime.service import Runtime, run
from perennial.v1 import events_pb2


class Config(ServiceConfig):
    """The settings of a program that publishes."""

    service = "program"


async def build(runtime: Runtime) -> None:
    """Publish the events of this life, one transaction each, and note the ids beside them."""

    async def work() -> None:
        await runtime.postgres.ready.wait()
        await runtime.postgres.execute("create table if not exists published (id text primary key, n bigint not null)")
        for number in range(int(os.environ.get("EVENTS", "0"))):
            await publish(runtime, number)
        print("published", flush=True)  # noqa: T201 the test waits for it

    runtime.background("work", work)


async def publish(runtime: Runtime, number: int) -> None:
    """One event and its row, in one transaction."""
    event: Any = Event(topics.MONITORING, "program", events_pb2.DriftDetected(), aggregate="program", aggregate_version=number)
    async with runtime.postgres.transaction() as transaction:
        await transaction.execute("insert into published values ($1, $2)", event.id, number)
        await transaction.publish(event)


if __name__ == "__main__":
    run(Config, build)
