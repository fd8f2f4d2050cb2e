"""The gateway's settings."""

from typing import Any, ClassVar

from perennial.runtime.config import ServiceConfig, setting


class GatewayConfig(ServiceConfig):
    """What all services have, and the HTTP side. The gateway has no database and reads no events."""

    service: ClassVar[str] = "gateway"
    default_port: ClassVar[int] = 50057
    needs_database: ClassVar[bool] = False
    needs_kafka: ClassVar[bool] = False

    http_port: int = setting(8080, ge=0, le=65535, description="Port of the REST API; 0 takes a free one")
    body_bytes: int = setting(16 * 1024**2, ge=1024, description="Largest body of a call, and largest line of a streamed one")
    deadline_s: float = setting(30.0, gt=0, description="How long a call may take when the caller sets no x-timeout-s")
    longest_deadline_s: float = setting(900.0, gt=0, description="Most that x-timeout-s may ask for; also for streams")
    heartbeat_s: float = setting(15.0, gt=0, description="How often a silent event stream is kept open by a comment")

    def model_post_init(self, context: Any) -> None:
        """The address of PostgreSQL in the platform's environment is for others."""
        super().model_post_init(context)
        object.__setattr__(self, "database_url", None)
