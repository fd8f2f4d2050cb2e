"""Are the examples in the docstrings true?"""

import doctest
import importlib
import pkgutil

import numpy as np
import perennial.stats
import pytest

MODULES = [module.name for module in pkgutil.walk_packages(perennial.stats.__path__, "perennial.stats.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_printed(name: str) -> None:
    """Every example of the module gives what stands below it."""
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_statistics_import_neither_the_runtime_nor_heavy_libraries() -> None:
    """Numpy is all that an import costs: SciPy and protobuf stay outside until a function needs them."""
    import subprocess
    import sys

    imports = "; ".join(f"import {name}" for name in MODULES)
    heavy = "[n for n in ('scipy', 'google.protobuf', 'perennial.runtime', 'perennial.v1', 'grpc') if n in sys.modules]"
    program = f"{imports}; import sys; print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
