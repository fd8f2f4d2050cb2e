"""The trainer's settings."""

from typing import ClassVar

from perennial.runtime.config import ServiceConfig, setting


class TrainerConfig(ServiceConfig):
    """What all services have, and how jobs are worked on."""

    service: ClassVar[str] = "trainer"
    default_port: ClassVar[int] = 50053

    workers: int = setting(1, ge=1, le=64, description="Jobs worked on at once; each has a process of its own")
    lease_s: float = setting(10.0, ge=1.0, description="A job whose worker is silent for so long is taken by another")
    deaths: int = setting(3, ge=1, description="How many workers may die over a job before it fails for good")
    retry_s: float = setting(5.0, gt=0, description="Wait before a job is tried again that needs something not there now")
    folds: int = setting(5, ge=2, le=50, description="Folds of whole days for figures out of sample; each is a fit")
    retrain_folds: int = setting(1, ge=1, le=50, description="Folds really fitted for a retraining; the judged one is the first")
    harm_margin: float = setting(0.1, ge=0, description="A retraining may be worse than its parent by this share of its loss")
