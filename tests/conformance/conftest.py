"""The programs of benchmarks/, which tests of the bounds of attention run too."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def simulated():
    """Machines, kernels and studies, imported as the folder of the program makes them importable."""
    sys.path.insert(0, str(BENCHMARKS))
    yield SimpleNamespace(
        machine=importlib.import_module("simulated_machine"),
        forward=importlib.import_module("simulated_attention"),
        backward=importlib.import_module("simulated_backward"),
        program=importlib.import_module("attention_bounds"),
    )
    sys.path.remove(str(BENCHMARKS))
