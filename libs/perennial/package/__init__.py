"""The model package: manifest, signature, digests, the ONNX graph and its check. Never a pickle."""

from perennial.package.artifact import ModelPackage
from perennial.package.export import package_model
from perennial.package.manifest import (
    BACKGROUND,
    MANIFEST,
    MODEL,
    REFERENCE,
    ExportCheck,
    FileEntry,
    Manifest,
    artifact_digest,
    checked_name,
)
from perennial.package.predictor import Predictor, load, open_package
from perennial.package.safety import refuse_external_data
from perennial.package.signature import Column, ColumnType, Pii, Signature, Task, column_type_from, task_from, task_to

__all__ = [
    "BACKGROUND", "MANIFEST", "MODEL", "REFERENCE", "Column", "ColumnType", "ExportCheck", "FileEntry", "Manifest",
    "ModelPackage", "Pii", "Predictor", "Signature", "Task", "artifact_digest", "checked_name", "column_type_from",
    "load", "open_package", "package_model", "refuse_external_data", "task_from", "task_to",
]  # fmt: skip
