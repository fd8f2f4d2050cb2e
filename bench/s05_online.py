"""S05: online features, 1 / 10 / 100 entities x 10 features, against a packed MGET of as many values.

    PERENNIAL_ENV_FILE=.perennial/env python bench/s05_online.py        (needs the stack: perennial up --only stack)

In process: the service's reader against the MGET on the same connection. Over gRPC: a whole ReadOnline call against
the floor plus an empty call of the same server. ``last`` views hold one fact an entity; ``window`` views hold 32 buckets.
"""

import secrets
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg
import grpc
import uvloop
from perennial.frames import Table, Text, encode, encode_text
from perennial.runtime.service import Runtime
from perennial.v1 import common_pb2
from perennial.v1 import feature_pb2 as pb
from perennial.v1 import feature_pb2_grpc as pb_grpc

from services.feature.__main__ import MIGRATIONS, build
from services.feature.config import FeatureConfig
from services.feature.domain.facts import Asked
from services.feature.store.catalog import Catalog
from services.feature.store.history import History
from services.feature.store.online import Online
from services.feature.store.reading import Reader
from services.feature.store.valkey import Valkey

HOUR = 3_600_000_000
T0 = 1_357_000_000_000_000 // HOUR * HOUR
NAMES = [f"c{place}" for place in range(10)]
ROUNDS = 400


async def main() -> None:
    """Fill a namespace of its own, measure, clean up."""
    config = FeatureConfig(namespace=f"s05-{secrets.token_hex(3)}", port=0, metrics_port=0, kafka_partitions=1, log_level="error")
    runtime = Runtime(config)
    await runtime.start(build, migrations=MIGRATIONS)
    assert config.database_url is not None
    valkey = Valkey(config.redis_url.get_secret_value())
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{runtime.port}") as channel:
            await measure(runtime, valkey, pb_grpc.FeatureServiceStub(channel), config.secret("admin_token", "admin-token"))
    finally:
        async for key in runtime.redis.scan_iter(match=config.redis_key("*"), count=1000):
            await runtime.redis.delete(key)
        await valkey.close()
        await runtime.stop()
        connection = await asyncpg.connect(config.database_url.get_secret_value())
        await connection.execute(f'drop schema "{config.schema_name}" cascade')
        await connection.close()


async def measure(runtime: Runtime, valkey: Valkey, stub: Any, token: str) -> None:
    """All figures."""
    metadata = (("authorization", f"Bearer {token}"),)
    for view in (last_view(), window_view()):
        await stub.RegisterFeatureView(pb.RegisterFeatureViewRequest(view=view), metadata=metadata)
        for hour in range(32 if view.name == "window" else 1):
            await stub.WriteFeatures(pb.WriteFeaturesRequest(parts=[rows(view.name, T0 + hour * HOUR)]), metadata=metadata)
    history = History(runtime.postgres, runtime.objects, runtime.config.data_dir)
    online = Online(valkey, history, runtime.config.redis_key("f:"), slack_us=2 * HOUR, cache_bytes=0)
    reader = Reader(history, Catalog(runtime.postgres), online, most_rows=1000)
    now = T0 + 32 * HOUR
    print("id  name  ours  floor  ratio     (median microseconds)")
    for entities in (1, 10, 100):
        keys = [f"user-{place}" for place in range(entities)]
        packed = [runtime.config.redis_key(f"floor:{key}") for key in keys]
        for name in packed:
            await valkey.call("SET", name, b"x" * 80)
        for name in ("last", "window"):
            ours = partial(reader.read, [Asked(name, Text.of(keys), (), ())], [now], now)
            whole, floor = await compared(ours, partial(valkey.call, "MGET", *packed))
            print(f"S05  {name}, {entities} entities, in process  {whole:.0f}  {floor:.0f}  {whole / floor:.2f}")
            request = pb.ReadOnlineRequest(
                times_us=[now], selections=[pb.FeatureSelection(view=name, keys=encode_text(Text.of(keys)))]
            )
            empty = partial(stub.GetFeatureView, pb.GetFeatureViewRequest(name="last"), metadata=metadata)
            called, call = await compared(partial(stub.ReadOnline, request, metadata=metadata), empty)
            print(f"S05  {name}, {entities} entities, gRPC  {called:.0f}  {floor + call:.0f}  {called / (floor + call):.2f}")


async def compared(ours: Callable[[], Any], floor: Callable[[], Any]) -> tuple[float, float]:
    """Median microseconds of both, taken in turns so that what else the machine does meets both."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, times in ((ours, spent[0]), (floor, spent[1])):
            start = time.perf_counter()
            await call()
            times.append(time.perf_counter() - start)
    return statistics.median(spent[0]) * 1e6, statistics.median(spent[1]) * 1e6


def last_view() -> pb.FeatureView:
    """Ten last values."""
    return view_of("last", [pb.Feature(name=name, aggregation=pb.AGGREGATION_LAST, column=name) for name in NAMES])


def window_view() -> pb.FeatureView:
    """Ten trailing windows over 32 hour buckets."""
    kinds = [pb.AGGREGATION_MEAN, pb.AGGREGATION_SUM, pb.AGGREGATION_COUNT, pb.AGGREGATION_MAX, pb.AGGREGATION_MIN]
    features = []
    for place in range(10):
        feature = pb.Feature(name=f"f{place}", aggregation=kinds[place % 5], column=NAMES[place % 2])
        feature.window.FromSeconds((24 if place < 5 else 32) * 3600)
        features.append(feature)
    return view_of("window", features)


def view_of(name: str, features: list[pb.Feature]) -> pb.FeatureView:
    """A view over ten number columns."""
    columns = [common_pb2.Column(name=column, type=common_pb2.COLUMN_TYPE_NUMBER) for column in NAMES]
    return pb.FeatureView(name=name, entity="user", key_column="user", columns=columns, features=features)


def rows(view: str, event: int) -> pb.ViewRows:
    """A fact for each of a hundred entities."""
    table = Table.of(
        {
            "user": [f"user-{place}" for place in range(100)],
            **{name: [float(place) / 7 for place in range(100)] for name in NAMES},
        }
    )
    return pb.ViewRows(view=view, rows=encode(table), event_times_us=[event] * 100, known_at_us=[event] * 100)


if __name__ == "__main__":
    uvloop.run(main())
