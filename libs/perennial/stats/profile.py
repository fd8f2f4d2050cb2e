"""How does a training set become a reference profile?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perennial.errors import InvalidArgument
from perennial.stats.binning import fold_blocks
from perennial.stats.calibration import WindowPolicy, pane_noise_of, window_noise_of
from perennial.stats.columns import Grid
from perennial.stats.errors import ErrorProfile
from perennial.stats.gridding import grid_of
from perennial.stats.reference import Noise, PaneNoise, Profile
from perennial.stats.rows import Rows

__all__ = ["Profile", "WindowPolicy", "build_profile"]


def build_profile(
    inputs: Rows,
    *,
    times_us: NDArray[np.int64],
    outputs: Rows | None = None,
    output_times_us: NDArray[np.int64] | None = None,
    importance: Mapping[str, float] | None = None,
    errors: ErrorProfile | None = None,
    windows: WindowPolicy | None = None,
) -> Profile:
    """The profile of a training set's inputs, with thresholds calibrated on its own blocks of time.

    ``outputs`` are predictions for rows the model was not fitted on (in-sample ones look too good), ``output_times_us`` their
    event times; ``importance`` is any non-negative weight a column. Blocks are days unless ``windows`` says otherwise. It takes
    about a second for 100,000 rows of 20 columns. InvalidArgument when rows and times do not fit, there are no rows, or a number
    is infinite; constant and empty columns are fine.
    """
    times = np.asarray(times_us, np.int64)
    if len(times) != inputs.rows:
        raise InvalidArgument(f"{len(times)} times do not fit {inputs.rows} rows")
    weights = {name: float(weight) for name, weight in (importance or {}).items()}
    if bad := [name for name, weight in weights.items() if not (np.isfinite(weight) and weight >= 0)]:
        raise InvalidArgument(f"importance of {', '.join(bad)} is negative or not finite")
    grid, produced = grid_of(inputs), grid_of(outputs) if outputs is not None and outputs.rows else Grid((), ())
    bare = Profile(grid, produced, inputs.rows, int(times.min()), int(times.max()), weights, errors)
    sides = [(grid, inputs, times)]
    if outputs is not None and outputs.rows:
        if output_times_us is None or len(output_times_us) != outputs.rows:
            raise InvalidArgument("out-of-sample outputs need one time a row")
        sides.append((produced, outputs, np.asarray(output_times_us, np.int64)))
    policy = windows or WindowPolicy()
    noises = [window_noise_of(grid, fold_blocks(grid, table, t // policy.block_us), policy) for grid, table, t in sides]
    panes = [pane_noise_of(grid, fold_blocks(grid, table, t // policy.pane_us), policy) for grid, table, t in sides]
    scales = {test: np.concatenate([noise.scales[test] for noise in noises]) for test in noises[0].scales}
    figures = np.concatenate([pane.figures for pane in panes])
    return replace(bare, noise=Noise(noises[0].windows, scales), panes=PaneNoise(figures, panes[0].panes))
