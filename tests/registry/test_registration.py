"""Registering versions, over real gRPC with real PostgreSQL, Kafka and objects."""

import pytest
from perennial.v1 import registry_pb2 as pb

from tests.registry.conftest import Registry


async def test_a_registered_version_can_be_read_back(registry: Registry, model: str) -> None:
    """Everything the client said of the version is in the answer and in what is read later. # REG-04 REG-07"""
    made = await registry.register(model, header={"metrics": {"mae": 1.5}, "description": "eta", "tags": {"team": "ops"}})
    read = (await registry.call("GetModelVersion", pb.GetModelVersionRequest(name=model, version="1.0.0"))).model_version
    assert read == made
    assert (made.version, made.stage, made.algorithm, made.metrics["mae"]) == ("1.0.0", pb.STAGE_DEVELOPMENT, "lightgbm", 1.5)
    assert made.author.name == "service:trainer"
