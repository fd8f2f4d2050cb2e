"""The registry's gRPC face, one file a group of calls."""

from perennial.runtime.service import Runtime
from perennial.v1 import registry_pb2_grpc as pb_grpc

from services.registry.config import RegistryConfig
from services.registry.events import event_of
from services.registry.service.keys import KeyCalls
from services.registry.service.models import ModelCalls
from services.registry.service.records import RecordCalls
from services.registry.service.versions import VersionCalls
from services.registry.store import Artifacts, History, Keys, Models


class RegistryService(ModelCalls, VersionCalls, RecordCalls, KeyCalls, pb_grpc.RegistryServiceServicer):
    """Models, versions, stages, aliases, events and API keys over gRPC."""

    def __init__(self, runtime: Runtime, config: RegistryConfig) -> None:
        postgres = runtime.postgres
        self._config, self._clock = config, runtime.clock
        self._models = Models(postgres, clock=runtime.clock, event_of=event_of)
        self._keys = Keys(postgres)
        self._history = History(postgres)
        self._artifacts = Artifacts(runtime.objects, config.data_dir / "registry" / "uploads", idle_s=config.upload_idle_s)
        self._artifacts.clear()
        self._forget_tokens = runtime.verifier.forget


__all__ = ["KeyCalls", "ModelCalls", "RecordCalls", "RegistryService", "VersionCalls"]
