"""Perennial keeps models alive after they ship."""

import os

# Libraries that report their use to their makers are silenced before any of them can be imported: onnxruntime starts
# a thread and resolves a name 8 s after import, mlflow and ray post events.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Where gRPC runs we fork only to exec; its fork handlers tear its own pollers apart meanwhile (grpcio 1.85, seen in tests).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
