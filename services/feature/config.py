"""The feature service's settings."""

from typing import ClassVar

from perennial.runtime.config import ServiceConfig, setting


class FeatureConfig(ServiceConfig):
    """What all services have, and how much is kept at hand."""

    service: ClassVar[str] = "feature"
    default_port: ClassVar[int] = 50052

    online_slack_s: int = setting(
        7200, ge=0, description="Rows up to this much older than an entity's newest fact are answered from Redis alone"
    )
    online_cache_bytes: int = setting(64 * 1024**2, ge=0, description="Packed states that a writer keeps in memory")
    write_rows: int = setting(200_000, ge=1, description="Most rows of one WriteFeatures call")
    read_rows: int = setting(100_000, ge=1, description="Most rows of one ReadOnline call")
    training_rows: int = setting(20_000_000, ge=1, description="Most rows of a training set")
    join_rows: int = setting(1_000_000, ge=1000, description="Facts that a point-in-time join holds in memory at once")
    compact_rows: int = setting(
        5_000_000, ge=1, description="Facts of a view in PostgreSQL from which on old ones move to Parquet"
    )
