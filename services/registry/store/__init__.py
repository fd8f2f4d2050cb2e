"""The registry's SQL, one file an aggregate; returns domain objects and decides nothing."""

from services.registry.store.artifacts import Artifacts
from services.registry.store.history import History
from services.registry.store.keys import Keys
from services.registry.store.models import Models

__all__ = ["Artifacts", "History", "Keys", "Models"]
