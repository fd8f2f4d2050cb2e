"""The typed client of a platform: ``Perennial`` (blocking) and ``AsyncPerennial``; failures are ``perennial.errors``."""

from perennial.client._async.client import AsyncPerennial
from perennial.client._async.monitoring import AsyncOutcomes
from perennial.client._sync.client import Perennial, Settled
from perennial.client._sync.monitoring import Outcomes
from perennial.client.producer import AsyncPredictionLog
from perennial.client.rows import Predictions
from perennial.frames import Table

__all__ = ["AsyncOutcomes", "AsyncPerennial", "AsyncPredictionLog", "Outcomes", "Perennial", "Predictions", "Settled", "Table"]
