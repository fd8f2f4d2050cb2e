"""How does a system that predicts by itself log its predictions without loss? With a spool of its own.

``log`` returns when the rows are on this machine's disk; a task in the background sends them to Kafka and goes on after an
outage or a crash: what a dead process left is sent by the next one. The ids it returns are what outcomes name.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from perennial.client.connection import find_env_file, read_env_file
from perennial.client.rows import Rows, Times, as_table, as_times_us
from perennial.errors import InvalidArgument, Unavailable
from perennial.frames import Table
from perennial.spool import Outgoing, Part, Sender, Spool, SpoolFull, Stream, StreamInfo, Text, orphans
from perennial.topics import PREDICTIONS

_DEADLINE_S = 4.0
_RETRY_S = 0.5
_CLOSE_S = 10.0
Micros = NDArray[np.int64]


@dataclass(frozen=True)
class Broker:
    """Where the platform's Kafka is."""

    bootstrap: str
    namespace: str = ""

    @classmethod
    def find(cls, env_file: Path | str | None = None) -> Broker:
        """From the environment, then the env file that ``perennial up`` writes. Unavailable when neither names one."""
        path = Path(env_file) if env_file else find_env_file()
        variables: Mapping[str, str] = {**(read_env_file(path) if path and path.is_file() else {}), **os.environ}
        bootstrap = variables.get("PERENNIAL_KAFKA__BOOTSTRAP") or variables.get("PERENNIAL_KAFKA_BOOTSTRAP")
        if not bootstrap:
            raise Unavailable(
                "no Kafka is named: set PERENNIAL_KAFKA__BOOTSTRAP, or run where `perennial up` wrote .perennial/env"
            )
        return cls(bootstrap, variables.get("PERENNIAL_NAMESPACE", ""))

    def topic(self, name: str) -> str:
        """A topic's name on the broker."""
        return f"{self.namespace}.{name}" if self.namespace else name


class AsyncPredictionLog:
    """The predictions of one version, logged to a deployment that was created with ``foreign=True``.

    >>> async with AsyncPredictionLog("prices", "2.1.0", spool="/var/lib/prices/spool") as log:  # doctest: +SKIP
    ...     ids = await log.log([{"rooms": 3.0}], [{"prediction": 112_000.0}])
    """

    def __init__(
        self, deployment: str, version: str, *, spool: Path | str, model: str = "", env_file: Path | str | None = None
    ) -> None:
        self._deployment, self._version, self._model = deployment, version, model or deployment
        self._root = Path(spool)
        self._broker = Broker.find(env_file)
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._found: list[Sender] = []
        self._info: StreamInfo | None = None

    async def __aenter__(self) -> Self:
        self._spool = Spool(self._root)
        self._sender = Sender(self._spool.folder, self._send, spool=self._spool)
        self._sender.watermark = lambda _deployment: int((time.time() - _DEADLINE_S) * 1_000_000)
        self._found = [Sender(folder, self._send, lock=lock) for folder, lock in orphans(self._root, own=self._spool.id)]
        self._tasks = [asyncio.create_task(self._sender.run()), *(asyncio.create_task(found.drain()) for found in self._found)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Sends what can be sent within ten seconds; the rest is kept for the next start."""
        await self._spool.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._sender.flush(), _CLOSE_S)
            (self._spool.folder / "drained").touch()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sender in (self._sender, *self._found):
            sender.close()
        self._spool.release()
        await self._replace_producer()

    async def log(
        self,
        rows: Rows,
        outputs: Rows,
        *,
        times: Times | None = None,
        entity_keys: Sequence[str] = (),
        latency_s: float = 0.0,
    ) -> list[str]:
        """Logs rows and what was answered (``prediction``, or ``p:<class>`` a class); returns the predictions' ids.

        InvalidArgument when the columns are not those of the first call, Unavailable when the disk is full.
        """
        inputs, answers = as_table(rows), as_table(outputs)
        if inputs.rows != answers.rows:
            raise InvalidArgument(f"{inputs.rows} rows and {answers.rows} outputs")
        stream = self._stream(inputs, answers)
        first_n = stream.take(inputs.rows)
        part = _part(stream, first_n, inputs, answers, times_us=_times(times, inputs.rows), keys=entity_keys, latency_s=latency_s)
        try:
            await self._spool.append([stream], [part])
        except SpoolFull as error:
            raise Unavailable(f"the spool in {self._root} has no room: {error}") from error
        return [f"{stream.id}-{first_n + place}" for place in range(inputs.rows)]

    async def flush(self) -> None:
        """Returns when everything logged so far is in Kafka."""
        await self._sender.flush()

    def _stream(self, inputs: Table, answers: Table) -> Stream:
        names = answers.number_names
        classes = tuple(name.removeprefix("p:") for name in names if name.startswith("p:"))
        info = StreamInfo(
            deployment=self._deployment, model=self._model, version=self._version, variant="champion",
            number_names=inputs.number_names, text_names=tuple(inputs.texts), output_names=names, classes=classes,
        )  # fmt: skip
        if self._info not in (None, info):
            raise InvalidArgument(f"the columns are {info.number_names + info.text_names} -> {names}; they were others before")
        self._info = info
        return self._spool.stream(info)

    async def _send(self, messages: Sequence[Outgoing]) -> bool:
        try:
            producer = await self._started()
            sent = [
                await producer.send(self._broker.topic(PREDICTIONS.name), key=out.stream.encode(),
                                    value=out.message.SerializeToString(), headers=_headers(out))
                for out in messages
            ]  # fmt: skip
            await asyncio.wait_for(asyncio.gather(*sent), _DEADLINE_S)
        except Exception:  # noqa: BLE001 whatever it is, the spool keeps the rows and they are sent again
            await self._replace_producer()
            await asyncio.sleep(_RETRY_S)
            return False
        return True

    async def _started(self) -> Any:
        async with self._starting:  # the own spool and those found share one producer
            if self._producer is None:
                from aiokafka import AIOKafkaProducer

                producer = AIOKafkaProducer(bootstrap_servers=self._broker.bootstrap, enable_idempotence=True)
                await producer.start()
                self._producer = producer
            return self._producer

    async def _replace_producer(self) -> None:
        """A producer that failed is closed before another one sends."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                await asyncio.wait_for(producer.stop(), _DEADLINE_S)


def _part(
    stream: Stream, first_n: int, inputs: Table, answers: Table, *, times_us: Micros, keys: Sequence[str], latency_s: float
) -> Part:
    texts = [Text(text.codes.astype("<i4").tobytes(), text.values) for text in inputs.texts.values()]
    known = None
    if keys:
        index = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        known = Text(np.array([index[key] for key in keys], dtype="<i4").tobytes(), list(index))
    numbers = (
        np.ascontiguousarray(inputs.numbers, dtype="<f4") if inputs.number_names else np.empty((inputs.rows, 0), dtype="<f4")
    )
    outputs = np.ascontiguousarray(answers.numbers, dtype="<f4")
    at = times_us.astype("<i8").tobytes()
    rows = inputs.rows
    return Part(stream.ordinal, first_n, rows, latency_s, 0, at, numbers.tobytes(), outputs.tobytes(), texts, known)


def _times(times: Times | None, rows: int) -> Micros:
    given = as_times_us(times)
    if given and len(given) != rows:
        raise InvalidArgument(f"{len(given)} times for {rows} rows")
    return np.array(given or [time.time_ns() // 1000] * rows, dtype=np.int64)


def _headers(out: Outgoing) -> list[tuple[str, bytes]]:
    deployment: str = out.message.deployment  # type: ignore[attr-defined] # every message of a spool names one
    event_id = uuid.uuid4().hex
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    pairs = {
        "ce_specversion": "1.0", "ce_id": event_id, "ce_source": "perennial-client", "ce_type": out.message.DESCRIPTOR.name,
        "ce_time": now, "ce_subject": deployment, "ce_correlationid": event_id, "ce_causationid": event_id,
        "ce_rows": str(out.rows), "ce_stream": out.stream, "ce_firstn": str(out.first_n), "content-type": "application/protobuf",
    }  # fmt: skip
    return [(name, value.encode()) for name, value in pairs.items()]
