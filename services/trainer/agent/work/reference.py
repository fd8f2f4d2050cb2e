"""What will the monitor hold a version against?

The profile of its training inputs and the answers and errors it gives out of sample (never in sample: a chart reset to
in-sample error is wrong from its first day), with thresholds calibrated by resampling blocks.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from perennial.frames import Table, Text
from perennial.package import Signature, Task

from services.trainer.agent.work.rows import TrainingRows
from services.trainer.domain.blocks import spread_places

BACKGROUND_ROWS = 200


def outputs_table(signature: Signature, outputs: NDArray[np.float64]) -> Table:
    """Outputs as predictions carry them: ``prediction``, or ``label`` and ``p:<class>``."""
    if signature.task is Task.REGRESSION:
        return Table(len(outputs), ("prediction",), outputs)
    label = Text(outputs.argmax(axis=1).astype(np.int32), signature.classes)
    return Table(len(outputs), signature.probability_names, outputs, {"label": label})


def profile_bytes(
    rows: TrainingRows,
    signature: Signature,
    places: NDArray[np.int64],
    outputs: NDArray[np.float64],
    importances: Mapping[str, float],
) -> bytes:
    """``reference.bin``: inputs of all rows; answers and errors of the rows at ``places``, by models that did not see them."""
    from perennial.stats import errors, profile

    table = outputs_table(signature, outputs)
    times = rows.times_us[places]
    truths = rows.truths[places]
    if signature.task is Task.REGRESSION:
        found = errors.regression_errors(truths.astype(np.float64), outputs[:, 0], times)
    else:
        found = errors.classification_errors(truths, table, signature.classes, times)
    built = profile.build_profile(
        rows.table, times_us=rows.times_us, outputs=table, output_times_us=times, importance=dict(importances), errors=found
    )
    data: bytes = built.to_bytes()
    return data


def figures(signature: Signature, labels: NDArray[Any], outputs: NDArray[np.float64]) -> dict[str, float]:
    """The out-of-sample figures of a version."""
    from perennial.stats import classification, losses

    if signature.task is Task.REGRESSION:
        sums: Any = losses.RegressionSums.of(labels, outputs[:, 0])
    else:
        names = np.array(signature.classes, dtype=object)[labels]
        sums = classification.ClassificationSums.of(names, outputs, signature.classes)
    return {name: float(value) for name, value in sums.figures().items() if np.isfinite(value)}


def background_bytes(table: Table) -> bytes:
    """``background.parquet``: up to 200 rows, spread evenly over the training rows."""
    import polars as pl

    few = table.take(spread_places(table.rows, BACKGROUND_ROWS))
    data = {name: few.column(name).astype(np.float64) for name in few.number_names}
    texts = {name: pl.Series(text.decoded().tolist(), dtype=pl.String) for name, text in few.texts.items()}
    frame = pl.DataFrame({**data, **texts})
    target = io.BytesIO()
    frame.write_parquet(target, compression="zstd", statistics=False)
    return target.getvalue()
