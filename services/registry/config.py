"""The registry's settings."""

from typing import ClassVar

from perennial.runtime.config import ServiceConfig, setting


class RegistryConfig(ServiceConfig):
    """What all services have, and the limits of an upload."""

    service: ClassVar[str] = "registry"
    default_port: ClassVar[int] = 50051

    artifact_bytes: int = setting(2 * 1024**3, ge=1024, description="Most bytes of one version's files together")
    artifact_files: int = setting(100, ge=1, le=10_000, description="Most files of one version")
    upload_idle_s: float = setting(60.0, gt=0, description="How long an upload may pause before it is given up")
