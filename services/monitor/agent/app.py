"""How does Faust read beside gRPC in one loop? An app per life, supervised; records go to the collector and are
acknowledged only after their effect is committed.

The stream runs with acknowledgements off (``take``, ``events`` and ``take_events`` would acknowledge in a ``finally`` and
lose the batch in flight at a graceful stop); nothing but ``CancelledError`` leaves the agent.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from perennial.runtime import telemetry
from perennial.topics import Topic

from services.monitor.agent import patches
from services.monitor.agent.collector import Collector, Record
from services.monitor.config import MonitorConfig

RAW: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
STOP_S = 10.0
_LOG = telemetry.log(__name__)


class Agent:
    """The Faust agent of this process."""

    def __init__(self, config: MonitorConfig, topics: tuple[Topic, ...], collector: Collector) -> None:
        self._config = config
        self._topics = topics
        self._collector = collector
        self._app: Any = None
        self._stop = asyncio.Event()
        self.problem: str | None = "not connected yet"

    async def run(self) -> None:
        """Read until stopped: a crashed or stopped app is replaced by a new one with the same group."""
        patches.apply()
        delay = 0.5
        while not self._stop.is_set():
            self._app = self._built()
            try:
                await self._app.start()
                self.problem, delay = None, 0.5
                await self._either(self._app.wait_until_stopped())
            except asyncio.CancelledError:
                await asyncio.shield(self._stopped())
                raise
            except Exception as error:  # noqa: BLE001 every failure ends in a new app
                self.problem = f"{type(error).__name__}: {error}"
                _LOG.warning("the agent is rebuilt", error=self.problem)
            await self._stopped()
            if not self._stop.is_set():
                await self._either(asyncio.sleep(delay))
                delay = min(delay * 2, 10.0)

    async def close(self) -> None:
        """Stop reading; what is not acknowledged is read again by whoever takes over."""
        self._stop.set()

    async def condition(self) -> str | None:
        """What is wrong now, for the readiness detail."""
        return self.problem

    def assigned(self) -> set[tuple[str, int]]:
        """The partitions this worker holds, by bare topic name."""
        try:
            return {(self._bare(tp.topic), tp.partition) for tp in self._app.consumer.assignment()}
        except Exception:  # noqa: BLE001 ConsumerNotStarted, or no app yet: none
            return set()

    def read_to_end(self) -> set[tuple[str, int]]:
        """The partitions of this worker without lag: everything in them is committed."""
        found = set()
        try:
            consumer = self._app.consumer
            for tp in consumer.assignment():
                key = (self._bare(tp.topic), tp.partition)
                end = consumer.highwater(tp)
                read = self._collector.done.get(key, consumer._committed_offset.get(tp))  # noqa: SLF001 no public reading
                if end is not None and (end == 0 or (read is not None and read >= end)):
                    found.add(key)
        except Exception:  # noqa: BLE001 not started: nothing is known
            return set()
        return found

    def _built(self) -> Any:
        import faust

        config = self._config
        options: dict[str, Any] = {}
        if config.kafka_username or config.kafka_ca_file:
            options["broker_credentials"] = _credentials(config)
        app = faust.App(
            config.prefixed("monitor-fold"), broker=[f"kafka://{host}" for host in config.kafka_bootstrap.split(",")],
            store="memory://", web_enabled=False, topic_disable_leader=True, topic_allow_declare=False,
            consumer_auto_offset_reset="earliest", broker_session_timeout=10.0, broker_heartbeat_interval=1.0,
            broker_request_timeout=20.0, broker_commit_interval=1.0, producer_linger=0.01, stream_wait_empty=False,
            stream_buffer_maxsize=4096, datadir=str(Path(tempfile.gettempdir()) / "perennial-monitor-faust"), **options,
        )  # fmt: skip
        topic = app.topic(*(config.prefixed(t.name) for t in self._topics), **RAW)

        async def fold(stream: Any) -> None:
            stream.enable_acks = False
            async for event in stream.events():
                await self._collector.put(self._record(stream, event))

        app.agent(topic, name="fold", concurrency=1)(fold)

        async def revoked(_app: Any, *arguments: Any, **_: Any) -> None:
            self._collector.revoked({(self._bare(tp.topic), tp.partition) for tp in (arguments[0] if arguments else ())})

        app.on_partitions_revoked.connect(revoked, weak=False)  # type: ignore[arg-type] # Faust's type lacks its own call
        return app

    def _record(self, stream: Any, event: Any) -> Record:
        message = event.message

        async def acknowledge() -> None:
            await stream.ack(event)

        return Record(
            self._bare(message.topic), message.partition, message.offset, message.key or b"", message.value or b"",
            dict(message.headers or ()), message.timestamp, acknowledge,
        )  # fmt: skip

    def _bare(self, topic: str) -> str:
        return topic.removeprefix(f"{self._config.namespace}.") if self._config.namespace else topic

    async def _either(self, work: Any) -> None:
        """Wait for ``work`` or the stop."""
        tasks = [asyncio.ensure_future(work), asyncio.create_task(self._stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _stopped(self) -> None:
        try:
            await asyncio.wait_for(self._app.stop(), STOP_S)
        except Exception as error:  # noqa: BLE001 a stopped app is thrown away
            _LOG.warning("stopping the agent failed", error=repr(error))


def _credentials(config: MonitorConfig) -> Any:
    import ssl

    import faust

    context = ssl.create_default_context(cafile=str(config.kafka_ca_file)) if config.kafka_ca_file else None
    if not config.kafka_username:
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=config.kafka_username,
        password=config.kafka_password.get_secret_value(),
        ssl_context=context,
        mechanism="SCRAM-SHA-512",
    )
