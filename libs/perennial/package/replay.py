"""Does the exported graph say what the model says?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perennial.errors import FailedPrecondition
from perennial.package.manifest import ExportCheck

TOLERANCE = 1e-5
"""Share of the outputs' scale that 32-bit sums over a few hundred trees may lose."""


def replayed(native: NDArray[np.floating], exported: NDArray[np.floating], *, tolerance: float = TOLERANCE) -> ExportCheck:
    """Both models' outputs over the same rows, compared; FailedPrecondition when any differs beyond tolerance times scale."""
    ours, theirs = np.asarray(exported, dtype=np.float64), np.asarray(native, dtype=np.float64)
    ours, theirs = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
    if ours.shape != theirs.shape:
        raise FailedPrecondition(f"the exported graph gives {ours.shape} and the model {theirs.shape}")
    if not np.isfinite(ours).all():
        raise FailedPrecondition(f"the exported graph gives {int((~np.isfinite(ours)).sum())} outputs that are no numbers")
    scale = max(1.0, float(np.abs(theirs).max(initial=0.0)))
    difference = np.abs(ours - theirs).max(axis=1, initial=0.0)
    largest = float(difference.max(initial=0.0))
    if largest > tolerance * scale:
        row = int(difference.argmax())
        raise FailedPrecondition(
            f"the exported graph and the model differ by {largest:.3g} at row {row}"
            f" ({int((difference > tolerance * scale).sum())} of {len(ours)} rows beyond {tolerance * scale:.3g})"
        )
    return ExportCheck(rows=len(ours), largest_difference=largest, tolerance=tolerance, scale=scale)
