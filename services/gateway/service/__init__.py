"""The gateway's HTTP face."""

from services.gateway.service.app import application

__all__ = ["application"]
