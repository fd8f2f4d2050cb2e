"""The feature service: ``python -m services.feature``."""

from pathlib import Path

from perennial.runtime.service import Runtime, run
from perennial.topics import FEATURES
from perennial.v1 import feature_pb2

from services.feature.config import FeatureConfig
from services.feature.events import GROUP, TYPES, Ingest
from services.feature.service import FeatureService
from services.feature.store.catalog import Catalog
from services.feature.store.compaction import Compaction
from services.feature.store.history import History
from services.feature.store.intake import Intake
from services.feature.store.online import Online
from services.feature.store.progress import Progress
from services.feature.store.reading import Reader
from services.feature.store.training import TrainingSets
from services.feature.store.valkey import Valkey
from services.feature.store.writing import Writer

MIGRATIONS = Path(__file__).parent / "migrations"


async def build(runtime: Runtime) -> None:
    """Put the service together."""
    config, postgres = runtime.config, runtime.postgres
    catalog, progress = Catalog(postgres), Progress(postgres)
    history = History(postgres, runtime.objects, config.data_dir / "feature")
    valkey = Valkey(config.redis_url.get_secret_value())
    online = Online(
        valkey, history, config.redis_key("f:"), slack_us=config.online_slack_s * 1_000_000,
        cache_bytes=config.online_cache_bytes,
    )  # fmt: skip
    writer = Writer(postgres, catalog, online)
    intake = Intake(catalog, writer, runtime.clock, most_rows=config.write_rows)
    reader = Reader(history, catalog, online, most_rows=config.read_rows)
    training = TrainingSets(postgres, catalog, history, runtime.objects, join_rows=config.join_rows)
    servicer = FeatureService(catalog, intake, reader, training, progress, runtime.clock, training_rows=config.training_rows)
    runtime.add_servicer(servicer, feature_pb2.DESCRIPTOR.services_by_name["FeatureService"])
    runtime.consume(FEATURES, group=GROUP, handle=Ingest(intake, progress).on_event, types=TYPES)
    runtime.background("catalog", catalog.follow)
    runtime.background("sweep", writer.sweep)
    runtime.background("online store", online.watch)
    compaction = Compaction(postgres, catalog, runtime.objects, most_rows=config.compact_rows)
    runtime.background("compaction", compaction.run)
    runtime.on_stop("clients", valkey.close)
    runtime.condition("online store", online.reachable)


if __name__ == "__main__":
    run(FeatureConfig, build, migrations=MIGRATIONS)
