"""Nothing is certified by a processor that does not compute as IEEE 754 says; one without fma will do."""

import ctypes
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from softcert import reference
from softcert.backends import fpenv
from softcert.reference.errors import AlteredArithmetic

X = np.array([[0.0, -740.0, -744.0, -100.0]])
METHODS = ["arb", "mpmath", "fast"]
QUESTIONS = {
    "softmax": lambda method: reference.softmax(X, method=method),
    "logsumexp": lambda method: reference.logsumexp(X, method=method),
    "attention": lambda method: reference.attention(X, X, X, method=method),
    "cotangents": lambda method: reference.attention_vjp(X, X, X, X, X[:, 0], X, method=method)[1],
}


@pytest.fixture(params=["upward", "downward", "toward zero", "flushed"])
def altered(request):
    """Change the floating-point environment when called, and say what the refusal has to name."""
    if not hasattr(fpenv, "restore"):
        pytest.skip("no access to the floating-point environment here")
    if request.param == "flushed":
        torch = pytest.importorskip("torch")
        if not torch.set_flush_denormal(False):
            pytest.skip("this processor cannot flush subnormals")
        changed, message = lambda: torch.set_flush_denormal(True), "flushes subnormals to zero"
    else:
        mode = {"upward": 0x800, "downward": 0x400, "toward zero": 0xC00}[request.param]
        libm, message = ctypes.CDLL("libm.so.6"), "does not round to nearest"

        def changed():
            assert libm.fesetround(mode) == 0

    def change():
        changed()
        return message

    yield change
    fpenv.restore()


def _refused(change, call):
    """Whether a call is refused in the changed environment, which is restored before anything else runs."""
    caught = None
    message = change()
    try:
        call()
    except AlteredArithmetic as error:
        caught = str(error)
    finally:
        fpenv.restore()
    return caught is not None and message in caught


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("op", QUESTIONS)
def test_questions_are_refused(altered, op, method):
    question = QUESTIONS[op]
    expected = question(method).round("float64")
    assert _refused(altered, lambda: question(method))
    np.testing.assert_array_equal(question(method).round("float64"), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("op", QUESTIONS)
def test_enclosures_made_before_give_no_floats(altered, op, method):
    enclosure = QUESTIONS[op](method)
    y = enclosure.round("float64")
    for call in (
        lambda: enclosure.round("float64"),
        lambda: enclosure.error_ulp(y),
        lambda: enclosure.in_ulps("float32"),
    ):
        assert _refused(altered, call)
    assert (enclosure.error_ulp(y)[1] <= 0.5).all()


PROGRAM = """
import hashlib
import numpy as np
from softcert import reference
from softcert.reference.fast import rows

rng = np.random.default_rng(1)
x, q = rng.normal(size=(20, 50)) * 9, rng.normal(size=(9, 70, 8))
y = reference.softmax(x, method="fast")
out = reference.attention(q, q, q, method="fast")
words = [*y.error_ulp(y.round("float32")), *out.error_ulp(out.round("float32"))]
print(hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in words)).hexdigest())
print("vfmadd" in rows.weights.inspect_asm(rows.weights.signatures[0]))
"""


def _printed(**variables):
    """What the program prints where nothing is kept from other processes, so that it can be read."""
    environment = os.environ | {"SOFTCERT_CACHE_DIR": ""} | variables
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


def test_a_processor_without_fma_gives_the_same_bits():
    """The C library's fma takes the place of the instruction."""
    here = _printed()
    without = _printed(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert len(here[0]) == 2 * hashlib.sha256().digest_size
    assert without == [here[0], "False"]
