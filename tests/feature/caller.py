"""Who calls the service under test."""

from dataclasses import dataclass
from typing import Any

import grpc
from perennial.errors import from_status
from perennial.runtime.service import Runtime
from perennial.v1 import feature_pb2_grpc as pb_grpc


@dataclass
class Feature:
    """The service and a caller."""

    runtime: Runtime
    stub: pb_grpc.FeatureServiceStub
    token: str

    async def call(self, method: str, request: Any) -> Any:
        """One call; the platform's errors as they are at home."""
        try:
            return await getattr(self.stub, method)(request, timeout=30, metadata=(("authorization", f"Bearer {self.token}"),))
        except grpc.aio.AioRpcError as error:
            raise from_status(error.code().name, error.details() or "") from None
