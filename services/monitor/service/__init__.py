"""The monitor's gRPC face."""

from services.monitor.service.servicer import MonitorService

__all__ = ["MonitorService"]
