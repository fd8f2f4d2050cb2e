"""What can be set about the monitor?"""

from typing import ClassVar

from perennial.runtime.config import ServiceConfig, setting


class MonitorConfig(ServiceConfig):
    """The settings of the monitor; the defaults work with ``perennial up``."""

    service: ClassVar[str] = "monitor"
    default_port: ClassVar[int] = 50055

    commit_interval_s: float = setting(1.0, gt=0, le=10, description="Longest time that folded rows wait for their transaction")
    commit_rows: int = setting(5000, ge=1, description="Rows that make a transaction due at once")
    stream_lease_s: float = setting(60.0, gt=0, description="Silence after which a stream no longer holds a watermark back")
    log_interval_s: float = setting(60.0, gt=0, description="Longest time that rows wait for their file of the prediction log")
    log_rows: int = setting(50_000, ge=1, description="Rows that make a file of the prediction log due at once")
    tick_s: float = setting(2.0, gt=0, description="How often watermarks that follow the clock are looked at")

    drift_detection_enabled: bool = setting(default=True, also=("DRIFT_DETECTION_ENABLED",))
    drift_detection_method: str = setting("ks", also=("DRIFT_DETECTION_METHOD",), description="Drift test of number columns")
    drift_detection_threshold: float | None = setting(
        None,
        also=("DRIFT_DETECTION_THRESHOLD", "DRIFT_THRESHOLD"),
        description="Instead of calibrated thresholds: a score, or a p-value (ks)",
    )
    drift_window_size: int = setting(
        0, also=("DRIFT_WINDOW_SIZE",), ge=0, description="Rows of a drift window; 0: as the deployment says"
    )
    min_samples_for_monitoring: int = setting(100, also=("MIN_SAMPLES_FOR_MONITORING",), ge=1, description="Rows a test needs")
    performance_degradation_threshold: float = setting(
        0.0,
        also=("PERFORMANCE_DEGRADATION_THRESHOLD",),
        ge=0,
        description="Loss beyond the reference's, as a share, that asks; 0: off",
    )
