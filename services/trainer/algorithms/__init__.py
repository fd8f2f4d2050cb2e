"""The algorithms of this trainer: one file each, and this table."""

from perennial.errors import FailedPrecondition, InvalidArgument

from services.trainer.algorithms.base import Algorithm, Fitted, Hyperparameter, Problem
from services.trainer.algorithms.hist_gradient_boosting import HistGradientBoosting
from services.trainer.algorithms.lightgbm import LightGbm
from services.trainer.algorithms.linear import Linear

ALGORITHMS: dict[str, Algorithm] = {a.name: a for a in (HistGradientBoosting(), LightGbm(), Linear())}


def named(name: str) -> Algorithm:
    """The algorithm of that name; InvalidArgument when there is none, FailedPrecondition when it cannot be used here."""
    if name not in ALGORITHMS:
        raise InvalidArgument(f"no algorithm {name!r}; there are {', '.join(sorted(ALGORITHMS))}")
    if missing := ALGORITHMS[name].missing():
        raise FailedPrecondition(f"{name} cannot be used here; install {missing}")
    return ALGORITHMS[name]


__all__ = ["ALGORITHMS", "Algorithm", "Fitted", "Hyperparameter", "Problem", "named"]
