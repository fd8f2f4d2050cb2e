"""R06 on the real stores: whatever the history and however it was written, online = offline = the brute force."""

import io
import secrets

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from perennial.frames import Table, decode
from perennial.v1 import feature_pb2 as pb

from services.feature import wire
from services.feature.domain.views import FeatureView
from tests.feature.caller import Feature
from tests.feature.flights import plain, rows_of, selection, training
from tests.feature.histories import KEYS, histories, moments, views
from tests.feature.oracle import Fact, worth

asked = st.lists(st.tuples(st.sampled_from([*KEYS, None]), moments), min_size=1, max_size=15)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    view=views(), history=histories(), rows=asked, cuts=st.lists(st.integers(1, 9), max_size=6), forget=st.booleans(),
    known_by=st.one_of(st.none(), moments),
)  # fmt: skip
async def test_online_equals_offline_equals_the_brute_force(
    feature: Feature, view: FeatureView, history: list[Fact], rows: list[tuple[str | None, int]], *,
    cuts: list[int], forget: bool, known_by: int | None,
) -> None:  # fmt: skip
    """Bit for bit, for late data, corrections, ties, ttl, nulls and texts, also after the online store was emptied."""
    message = wire.definition_to(view)
    message.name = name = f"r06_{secrets.token_hex(6)}"
    await feature.call("RegisterFeatureView", pb.RegisterFeatureViewRequest(view=message))
    for part in _parts(history, cuts):
        facts = [{"origin": f.key, "event": f.event, "known": f.known, **f.values} for f in part]
        await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(name, facts)]))
    if forget:
        async for key in feature.runtime.redis.scan_iter(match=feature.runtime.config.redis_key("*"), count=1000):
            await feature.runtime.redis.delete(key)
    keys, times = [key for key, _ in rows], [t for _, t in rows]
    read = pb.ReadOnlineRequest(selections=[selection(name, keys)], times_us=times)
    online = list(decode((await feature.call("ReadOnline", read)).features).to_rows())
    assert online == [_truth(view, history, key, t) for key, t in rows]
    header = pb.TrainingSetHeader(joins=[pb.FeatureJoin(view=name, key_column="origin")])
    if known_by is not None:
        header.known_by.FromMicroseconds(known_by)
    table = Table.of({"row": [float(place) for place in range(len(rows))], "origin": keys}) if any(keys) else None
    if table is None:
        return
    built = (await feature.call("BuildTrainingSet", iter(training(header, table, times)))).training_set
    stored = pq.read_table(io.BytesIO(await feature.runtime.objects.get(built.object_key))).to_pylist()
    for row in stored:
        key, t = rows[int(row["row"])]
        assert row["event_time_us"] == t
        expected = _truth(view, history, key, t, known_by)
        assert {name: plain(row[name]) for name in expected} == expected


def _truth(view: FeatureView, history: list[Fact], key: str | None, t: int, known_by: int | None = None) -> dict[str, object]:
    return {
        f.name: worth(
            f.aggregation.value, history, key, t, column=f.column, divisor=f.divisor, known_by=known_by,
            window=f.window_us or (view.ttl_us if f.aggregation.value == "last" else 0),
        )
        for f in view.features
    }  # fmt: skip


def _parts(history: list[Fact], cuts: list[int]) -> list[list[Fact]]:
    parts, start = [], 0
    for size in [*cuts, len(history)]:
        if part := history[start : start + size]:
            parts.append(part)
        start += size
    return parts
