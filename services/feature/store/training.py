"""Training sets: rows joined with what was known at their times, kept as Parquet under the file's digest."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from perennial.clock import from_us
from perennial.errors import FailedPrecondition, NotFound
from perennial.runtime.objects import Objects
from perennial.runtime.postgres import Postgres
from perennial.v1 import feature_pb2 as pb

from services.feature import wire
from services.feature.domain.facts import compact_keys
from services.feature.domain.joining import Column, Joining, KeyedRows, batches
from services.feature.domain.training import Header, Join, Labelled, check_names, ordered
from services.feature.domain.views import Feature, Kind
from services.feature.store.catalog import Catalog, KnownView
from services.feature.store.facts import rows_of
from services.feature.store.files import in_file_order
from services.feature.store.history import History
from services.feature.store.parquet import write_training_set
from services.feature.store.reading import assembled, named, names_of


class TrainingSets:
    """Builds and describes training sets."""

    def __init__(self, postgres: Postgres, catalog: Catalog, history: History, objects: Objects, *, join_rows: int) -> None:
        self._postgres, self._catalog, self._history, self._objects = postgres, catalog, history, objects
        self._join_rows = join_rows

    async def check(self, header: Header) -> None:
        """Whether the header's joins can be made. NotFound (view, feature), FailedPrecondition (a view not kept offline)."""
        for join in header.joins:
            await self._joined_features(join)

    async def build(self, header: Header, rows: Labelled) -> pb.TrainingSet:
        """Join, store and describe. Equal rows and facts give an equal digest."""
        rows = await asyncio.to_thread(ordered, rows)
        wanted: list[tuple[str, Kind]] = []
        columns: dict[str, Column] = {}
        for join in header.joins:
            known, features, names = await self._joined_features(join)
            check_names([*columns, *names], rows.table)
            found = await self._join(known, features, join.key_column, rows, header.known_by_us)
            columns.update(zip(names, found, strict=True))
            wanted += named(known, features, names)
        table = rows.table.merged(assembled(wanted, columns, rows.table.rows))
        return await self._stored(header, Labelled(table, rows.times, rows.entities))

    async def get(self, digest: str) -> pb.TrainingSet:
        """The description of a training set. NotFound."""
        found = await self._postgres.fetchval("select description from training_sets where digest = $1", digest)
        if found is None:
            raise NotFound(f"no training set {digest[:80]!r}")
        return pb.TrainingSet.FromString(found)

    async def _joined_features(self, join: Join) -> tuple[KnownView, tuple[Feature, ...], tuple[str, ...]]:
        known = await self._catalog.get(join.view)
        if not known.view.offline:
            raise FailedPrecondition(f"view {join.view!r} is not kept offline")
        features = known.view.chosen(join.features)
        return known, features, names_of(features, join.names)

    async def _join(
        self, known: KnownView, features: Sequence[Feature], key_column: str, rows: Labelled, known_by_us: int | None
    ) -> list[Column]:
        """The features' columns, entities in batches so that memory stays bounded."""
        keyed = KeyedRows(*compact_keys(rows.table.texts[key_column]), rows.times, in_file_order)
        joining = Joining(known.view, features, known.layout, keyed)
        counts = await rows_of(self._postgres, known.id, keyed.keys)
        for first, last in batches(counts, self._join_rows):
            keys = keyed.keys[first:last]
            found = await self._history.read(known, keys, since_us=joining.since, until_us=joining.until)
            await asyncio.to_thread(joining.fill, first, last, found.facts, known_by_us)
        return joining.columns

    async def _stored(self, header: Header, rows: Labelled) -> pb.TrainingSet:
        labels = list(header.labels)
        inputs = [name for name in rows.table.names if name not in labels]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.parquet"
            digest = await asyncio.to_thread(write_training_set, rows, inputs, labels, path)
            key = f"training-sets/{digest}.parquet"
            if not await self._objects.exists(key):
                await self._objects.put(key, path)
        described = pb.TrainingSet(
            digest=digest, object_key=key, rows=rows.table.rows, label_columns=labels, name=header.name,
            columns=wire.columns_to(
                [name for name in rows.table.number_names if name not in labels],
                [name for name in rows.table.texts if name not in labels],
            ),
            joins=[wire.join_to(join) for join in header.joins],
        )  # fmt: skip
        if len(rows.times):
            described.start.FromDatetime(from_us(int(rows.times.min())))
            described.end.FromDatetime(from_us(int(rows.times.max())))
        described.created_at.GetCurrentTime()
        async with self._postgres.transaction() as transaction:
            await transaction.execute(
                "insert into training_sets (digest, description) values ($1, $2) on conflict (digest) do nothing",
                digest, described.SerializeToString(deterministic=True),
            )  # fmt: skip
            await transaction.audit("training_set.built", digest, rows=rows.table.rows, name=header.name)
        return await self.get(digest)
