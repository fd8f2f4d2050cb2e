"""The OpenAPI 3.1 document of the REST API, made from the descriptors and the comments of the protos."""

from services.gateway.wire.openapi.document import document

__all__ = ["document"]
