"""Which settings does serving have?"""

from typing import ClassVar

from perennial.runtime.config import ServiceConfig, setting


class ServingConfig(ServiceConfig):
    """Serving's own settings beside those of every service."""

    service: ClassVar[str] = "serving"
    default_port: ClassVar[int] = 50054

    startup_wait_s: float = setting(1.0, ge=0, description="Patience of a start with PostgreSQL before it answers from disk")
    message_bytes: int = setting(16 * 1024 * 1024, ge=1024, description="Largest request")
    snapshot_max_age_s: float = setting(7 * 86400.0, gt=0, description="Oldest snapshot a start without PostgreSQL answers from")
    spool_max_bytes: int = setting(10 * 1024**3, ge=1024, description="Most bytes of the prediction log on the own disk")
    inline_rows: int = setting(64, ge=1, description="Calls of more rows are computed beside the event loop")
    shadow_queue_calls: int = setting(256, ge=1, description="Calls that may wait for a challenger in shadow")
    challenger_timeout_s: float = setting(2.0, gt=0, description="A live challenger's call is answered by the champion after it")
    features_timeout_s: float = setting(2.0, gt=0, description="How long a prediction waits for its features")
    models_in_memory: int = setting(64, ge=1, also=("MAX_MODELS_IN_MEMORY",), description="Loaded model versions")
    pii_key: str = setting("", description="Key of the hashes of personal data; empty means the service key")
