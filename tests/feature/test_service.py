"""The feature service over gRPC, on real PostgreSQL, Valkey and S3."""

import io
import secrets

import pyarrow.parquet as pq
import pytest
from perennial.errors import FailedPrecondition, InvalidArgument, NotFound
from perennial.frames import Table, decode
from perennial.v1 import feature_pb2 as pb

from services.feature.store.catalog import Catalog
from services.feature.store.compaction import Compaction
from tests.feature.caller import Feature
from tests.feature.flights import HOUR, MINUTE, T0, a_feature, column, landing, landings, plain, rows_of, selection, training


@pytest.fixture
async def view(feature: Feature) -> str:
    """A view nobody else uses."""
    name = f"landings_{secrets.token_hex(4)}"
    await feature.call("RegisterFeatureView", pb.RegisterFeatureViewRequest(view=landings(name)))
    return name


ROWS = [
    landing("BOS", T0 + 10 * MINUTE, 40.0),
    landing("BOS", T0 + 50 * MINUTE, 42.5, carrier="B6"),
    landing("BOS", T0 + 90 * MINUTE, None, carrier=None),
    landing("BOS", T0 + 30 * MINUTE, 0.1, known=T0 + 5 * HOUR),
    landing("SFO", T0 + 70 * MINUTE, 350.0, 2500.0),
]


async def test_what_is_written_is_read_as_of_each_rows_time(feature: Feature, view: str) -> None:
    """FS-08, FS-09: a read sees what happened and was known before its time, and nothing later, in one call over views."""
    stored = await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS)]))
    assert stored.stored == 5
    request = pb.ReadOnlineRequest(
        selections=[
            selection(view, ["BOS", "BOS", "BOS", "SFO", "XXX", None]),
            selection(view, ["SFO"] * 6, ["last_air_time"], ["other"]),
        ],
        times_us=[T0 + 50 * MINUTE, T0 + 100 * MINUTE, T0 + 6 * HOUR, T0 + 2 * HOUR, T0, T0],
    )
    rows = list(decode((await feature.call("ReadOnline", request)).features).to_rows())
    assert [row["landings_2h"] for row in rows] == [1.0, 3.0, 0.0, 1.0, 0.0, None]
    assert [row["mean_24h"] for row in rows] == [40.0, 41.25, (40.0 + 42.5 + 0.1) / 3, 350.0, None, None]
    assert [row["last_carrier"] for row in rows] == ["UA", None, None, "UA", None, None]
    assert [row["last_air_time"] for row in rows] == [40.0, None, None, 350.0, None, None]
    assert [row["other"] for row in rows] == [None, 350.0, 350.0, 350.0, None, None]
    assert rows[3]["pace_24h"] == 350 / 2500


async def test_a_training_set_holds_what_a_read_gave(feature: Feature, view: str) -> None:
    """FS-10, FS-16, R06: the join gives the online answers bit for bit, and equal rows give an equal digest."""
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS)]))
    times = [T0 + m * MINUTE for m in (50, 51, 100, 101, 360, 2000, 120)]
    keys = ["BOS", "BOS", "SFO", "BOS", "BOS", "SFO", "XXX"]
    request = pb.ReadOnlineRequest(selections=[selection(view, keys)], times_us=times)
    online = decode((await feature.call("ReadOnline", request)).features)
    header = pb.TrainingSetHeader(name="eta", joins=[pb.FeatureJoin(view=view, key_column="dest")], label_columns=["y"])
    table = Table.of({"dest": keys, "hour": [float(i) for i in range(7)], "y": [1.0] * 7})
    built = (await feature.call("BuildTrainingSet", iter(training(header, table, times, keys)))).training_set
    again = (await feature.call("BuildTrainingSet", iter(training(header, table, times, keys)))).training_set
    assert (built.digest, built.rows, list(built.label_columns)) == (again.digest, 7, ["y"])
    assert (await feature.call("GetTrainingSet", pb.GetTrainingSetRequest(digest=built.digest))).training_set == built
    stored = pq.read_table(io.BytesIO(await feature.runtime.objects.get(built.object_key)))
    assert stored.column_names[:2] == ["event_time_us", "entity_key"]
    assert stored.column_names[-1] == "y"
    assert [c.name for c in built.columns] == stored.column_names[2:-1]
    by_hour = {row["hour"]: row for row in stored.to_pylist()}
    for place, row in enumerate(online.to_rows()):
        joined = by_hour[float(place)]
        assert {name: plain(value) for name, value in joined.items() if name in row} == row
        assert (joined["event_time_us"], joined["entity_key"], joined["dest"]) == (times[place], keys[place], keys[place])


async def test_a_repeated_position_is_stored_once(feature: Feature, view: str) -> None:
    """A call sent again, whole or with other boundaries, adds only the positions that are new."""

    def write(first: int, rows: list[dict[str, object]]) -> pb.WriteFeaturesRequest:
        return pb.WriteFeaturesRequest(parts=[rows_of(view, rows)], stream=f"s-{view}", first_n=first)

    assert (await feature.call("WriteFeatures", write(1, ROWS[:3]))).stored == 3
    again = await feature.call("WriteFeatures", write(1, ROWS[:3]))
    assert (again.stored, again.repeated_rows) == (0, 3)
    longer = await feature.call("WriteFeatures", write(2, ROWS[1:]))
    assert (longer.stored, longer.repeated_rows) == (2, 2)
    read = pb.ReadOnlineRequest(selections=[selection(view, ["BOS"], ["landings_2h"])], times_us=[T0 + 100 * MINUTE])
    assert decode((await feature.call("ReadOnline", read)).features).column("landings_2h")[0] == 3.0


async def test_several_parts_are_stored_together_or_not_at_all(feature: Feature, view: str) -> None:
    """A refused row in one part keeps the rows of every part out, and the error names view, row and column."""
    bad = rows_of(view, [ROWS[0], {**ROWS[1], "air_time": 5000.0}, {**ROWS[1], "distance": None}])
    with pytest.raises(InvalidArgument) as refused:
        await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS), bad]))
    for part in (view, "row 1", "'air_time' is above 2000", "row 2", "'distance' is null"):
        assert part in refused.value.message
    read = pb.ReadOnlineRequest(selections=[selection(view, ["BOS"], ["last_air_time"])], times_us=[T0 + 100 * MINUTE])
    assert decode((await feature.call("ReadOnline", read)).features).column("last_air_time")[0] != 0
    assert (
        await feature.runtime.postgres.fetchval(
            "select count(*) from entities e join views v on v.id = e.view_id where name = $1", view
        )
        == 0
    )


async def test_what_is_unknown_is_not_found(feature: Feature, view: str) -> None:
    """An unknown view or feature is NOT_FOUND by name, everywhere."""
    nobody = pb.WriteFeaturesRequest(parts=[rows_of("nobody", ROWS[:1])])
    with pytest.raises(NotFound, match="nobody"):
        await feature.call("WriteFeatures", nobody)
    with pytest.raises(NotFound, match="no feature 'fame'"):
        await feature.call("ReadOnline", pb.ReadOnlineRequest(selections=[selection(view, ["BOS"], ["fame"])]))
    header = pb.TrainingSetHeader(joins=[pb.FeatureJoin(view="nobody", key_column="dest")])
    with pytest.raises(NotFound, match="nobody"):
        await feature.call("BuildTrainingSet", iter(training(header, Table.of({"dest": ["a", "b"]}), [T0, T0])))
    with pytest.raises(NotFound):
        await feature.call("GetTrainingSet", pb.GetTrainingSetRequest(digest="0" * 64))
    with pytest.raises(NotFound):
        await feature.call("GetFeatureView", pb.GetFeatureViewRequest(name="nobody"))


async def test_an_emptied_online_store_is_filled_again(feature: Feature, view: str) -> None:
    """Valkey lost its data: reads and later writes are still right."""
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS)]))
    request = pb.ReadOnlineRequest(selections=[selection(view, ["BOS", "SFO", "XXX"])], times_us=[T0 + 6 * HOUR])
    before = (await feature.call("ReadOnline", request)).features
    await _forget(feature)
    assert (await feature.call("ReadOnline", request)).features == before
    await _forget(feature)
    more = [landing("BOS", T0 + 200 * MINUTE, 50.0), landing("JFK", T0 + 200 * MINUTE, 50.0)]
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, more)]))
    after = decode((await feature.call("ReadOnline", request)).features)
    assert after.column("mean_24h")[0] == (40.0 + 42.5 + 0.1 + 50.0) / 4


async def _forget(feature: Feature) -> None:
    async for key in feature.runtime.redis.scan_iter(match=feature.runtime.config.redis_key("*"), count=1000):
        await feature.runtime.redis.delete(key)


async def test_a_row_older_than_the_online_store_is_read_from_history(feature: Feature, view: str) -> None:
    """What was dropped online is answered from PostgreSQL, exactly as before it was dropped."""
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS)]))
    request = pb.ReadOnlineRequest(selections=[selection(view, ["BOS", "SFO"])], times_us=[T0 + 95 * MINUTE])
    before = (await feature.call("ReadOnline", request)).features
    later = [landing(dest, T0 + 60 * 24 * HOUR, 1.0) for dest in ("BOS", "SFO")]
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, later)]))
    assert (await feature.call("ReadOnline", request)).features == before


async def test_a_view_grows_and_does_not_shrink(feature: Feature, view: str) -> None:
    """FS-04, FS-07: the same view again changes nothing; added columns and features make a version; lost ones are refused."""
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS)]))
    same = await feature.call("RegisterFeatureView", pb.RegisterFeatureViewRequest(view=landings(view)))
    assert same.view.version == 1
    wider = landings(view)
    wider.columns.append(column("wind"))
    wider.features.append(a_feature("last_wind", "last", "wind"))
    grown = (await feature.call("RegisterFeatureView", pb.RegisterFeatureViewRequest(view=wider))).view
    assert (grown.version, grown.features[-1].name) == (2, "last_wind")
    await feature.call(
        "WriteFeatures",
        pb.WriteFeaturesRequest(parts=[rows_of(view, [{**ROWS[0], "wind": 7.0, "event": T0 + HOUR, "known": T0 + HOUR}])]),
    )
    read = pb.ReadOnlineRequest(
        selections=[selection(view, ["BOS"] * 2, ["landings_2h", "last_wind"])], times_us=[T0 + HOUR, T0 + 100 * MINUTE]
    )
    found = decode((await feature.call("ReadOnline", read)).features)
    assert found.column("landings_2h").tolist() == [2.0, 4.0]
    with pytest.raises(FailedPrecondition, match="added to, at the end"):
        await feature.call(
            "RegisterFeatureView",
            pb.RegisterFeatureViewRequest(
                view=landings(
                    view,
                    columns=[column("air_time"), column("distance")],
                    features=[a_feature("n", "count", window=HOUR)],
                    constraints=[],
                )
            ),
        )


async def test_history_in_files_answers_like_history_in_tables(feature: Feature, view: str) -> None:
    """Facts moved to Parquet, half by half, change no answer: online after a loss, for old rows, and in training sets."""
    rows = [
        landing(dest, T0 + h * HOUR, float(h), known=T0 + h * HOUR + (h % 5) * HOUR)
        for h in range(60)
        for dest in ("BOS", "SFO", "É")
    ]
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, rows)]))
    keys, times = ["BOS", "SFO", "É", "XXX"] * 15, [T0 + h * HOUR + MINUTE for h in range(60)]
    read = pb.ReadOnlineRequest(selections=[selection(view, keys)], times_us=times)
    header = pb.TrainingSetHeader(joins=[pb.FeatureJoin(view=view, key_column="dest")])
    table = Table.of({"dest": keys, "hour": [float(i) for i in range(60)]})
    before = (await feature.call("ReadOnline", read)).features
    built = (await feature.call("BuildTrainingSet", iter(training(header, table, times)))).training_set
    compaction = Compaction(
        feature.runtime.postgres, catalog := Catalog(feature.runtime.postgres), feature.runtime.objects, most_rows=1
    )
    moved = [await compaction.compact(await catalog.get(view)) for _ in range(2)]
    assert [m.rows for m in moved] == [87, 45]
    assert (await feature.call("ReadOnline", read)).features == before
    assert (await feature.call("BuildTrainingSet", iter(training(header, table, times)))).training_set.digest == built.digest
    await _forget(feature)
    assert (await feature.call("ReadOnline", read)).features == before
    late = [landing("BOS", T0 + 3 * HOUR, 1000.0, known=T0 + 61 * HOUR)]
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, late)]))
    assert (await feature.call("ReadOnline", read)).features == before


async def test_a_write_cut_short_between_the_stores_is_finished(feature: Feature, view: str) -> None:
    """PostgreSQL holds the rows, Valkey an older state, the caller no answer: the repeat brings Valkey up to date."""
    request = pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS[:2])], stream=f"cut-{view}", first_n=1)
    await feature.call("WriteFeatures", pb.WriteFeaturesRequest(parts=[rows_of(view, ROWS[3:4])]))
    names = [key async for key in feature.runtime.redis.scan_iter(match=feature.runtime.config.redis_key("*:BOS"), count=1000)]
    older = {name: await feature.runtime.redis.dump(name) for name in names}
    await feature.call("WriteFeatures", request)
    for name, value in older.items():
        assert value is not None
        await feature.runtime.redis.restore(name, 0, value, replace=True)
    await feature.call("WriteFeatures", request)
    read = pb.ReadOnlineRequest(selections=[selection(view, ["BOS"], ["landings_2h"])], times_us=[T0 + 100 * MINUTE])
    assert decode((await feature.call("ReadOnline", read)).features).column("landings_2h")[0] == 2.0
