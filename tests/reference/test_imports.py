"""The ground truth stands on no floating-point framework."""

import subprocess
import sys

import pytest

PROBE = """
import sys
import softcert.reference
softcert.reference.softmax([1.0, 2.0]).round("bfloat16")
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    "framework", ["torch", "scipy", "triton", "jax", "hypothesis", "matplotlib", "sympy"]
)
def test_importing_the_reference_imports_no_framework(framework, imported):
    assert framework not in imported


@pytest.fixture(scope="module")
def imported():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    return done.stdout.split()
