"""Which tests of difference are there? One small file each; ``TESTS`` is the table."""

from perennial.stats.drift.base import DriftTest, Measurement
from perennial.stats.drift.chi_square import ChiSquare
from perennial.stats.drift.js import JensenShannon
from perennial.stats.drift.kl import KullbackLeibler
from perennial.stats.drift.ks import KolmogorovSmirnov
from perennial.stats.drift.psi import PopulationStabilityIndex
from perennial.stats.drift.wasserstein import Wasserstein

__all__ = ["TESTS", "DriftTest", "Measurement"]

TESTS: dict[str, DriftTest] = {
    test.name: test
    for test in (
        PopulationStabilityIndex(),
        KolmogorovSmirnov(),
        ChiSquare(),
        JensenShannon(),
        KullbackLeibler(),
        Wasserstein(),
    )
}
