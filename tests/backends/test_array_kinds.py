"""Functions of jax, of torch and of any array API module get the arrays that they work on."""

import functools
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from softcert.backends import DTYPES, LAYOUTS, Call, Output, SubjectError, Worker, as_dtype, load
from softcert.backends.adapt_attention import AdaptedAttention
from softcert.backends.array_kinds import array_kinds, preferred_kind
from softcert.backends.convert import NotAnArrayError, as_result, present, wait_for
from softcert.backends.harmless import attention_operands

X = np.array([[0.0, 1.0, 2.0, -1.0], [3.0, 0.5, -2.0, 1.0]])
SOFT = np.exp(X) / np.exp(X).sum(-1, keepdims=True)

#: Not imported here: its threads would not survive the forks of other tests.
jax_is_there = pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")


@pytest.fixture
def write(tmp_path):
    def write_file(text):
        path = tmp_path / "kernel.py"
        path.write_text(text)
        return f"{path}:softmax"

    return write_file


# --- what a function wants ---


def of_numpy(x, axis=-1):
    return np.exp(x)


def of_nothing(x, axis=-1):
    return x


def of_strict(x, axis=-1):
    def inner(y):
        return xp.exp(y)

    return inner(x)


xp = None


def test_the_kind_is_told_by_the_modules_that_a_function_uses(monkeypatch):
    strict = pytest.importorskip("array_api_strict")
    monkeypatch.setitem(globals(), "xp", strict)
    assert preferred_kind(of_numpy) == ""
    assert preferred_kind(of_strict) == "array_api_strict"
    assert preferred_kind(functools.partial(of_strict, axis=0)) == "array_api_strict"
    # The module around it knows NumPy.
    assert preferred_kind(of_nothing) == ""
    assert preferred_kind(strict.exp) == "array_api_strict"
    assert list(array_kinds("array_api_strict"))[:2] == ["array_api_strict", "numpy"]


def test_functions_without_code_or_home_want_numpy():
    assert preferred_kind(np.exp) == ""
    assert preferred_kind(len) == ""
    assert preferred_kind(object()) == ""


# --- any array API module ---

STRICT = """
import array_api_strict as xp

def softmax(x, axis=-1):
    assert isinstance(x, type(xp.asarray(0.0)))
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)
"""


def test_kernels_of_an_array_api_module(write):
    pytest.importorskip("array_api_strict")
    with Worker(write(STRICT)) as worker:
        assert "array_api_strict" in worker.description.versions
        for dtype in ("float64", "float32"):
            for layout in LAYOUTS[:-1]:
                reply = worker.call(Call("softmax", (X.astype(dtype),), layout=layout))
                assert isinstance(reply, Output), reply
                assert (reply.value.dtype.name, reply.side_effects) == (dtype, ())
                np.testing.assert_allclose(reply.value, SOFT, rtol=1e-6)
        refused = worker.call(Call("softmax", (X.astype(np.float16),)))
        assert (refused.kind, refused.message[:9]) == ("exception", "TypeError")
        assert isinstance(worker.call(Call("softmax", (X,))), Output)


def test_purity_is_seen_through_dlpack(write):
    pytest.importorskip("array_api_strict")
    changed = STRICT.replace("    e = ", "    x[...] = x - 1\n    e = ")
    with Worker(write(changed)) as worker:
        assert worker.call(Call("softmax", (X,))).side_effects == ("input-modified",)
    with Worker(write(STRICT.replace("    e = ", "    return x\n    e = "))) as worker:
        assert worker.call(Call("softmax", (X,))).side_effects == ("output-aliases-input",)


def test_arrays_go_over_without_copies_where_they_can():
    strict = pytest.importorskip("array_api_strict")
    given = present(X, "array_api_strict")
    assert isinstance(given, strict.asarray(0.0).__class__)
    assert np.shares_memory(as_result(given, X.dtype), X)
    locked = np.broadcast_to(X[:1], (3, 4))
    np.testing.assert_array_equal(as_result(present(locked, "array_api_strict"), X.dtype), locked)


class Elsewhere:
    """An array on a device: NumPy may not have it unasked, and DLPack brings it where it is asked to."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, *, dl_device=None, copy=None, **others):
        if dl_device != (1, 0):
            raise BufferError("the array is on a device")
        return X.__dlpack__()


class Nowhere(Elsewhere):
    def __dlpack__(self, **others):
        raise BufferError("the array is lost")


def test_results_on_a_device_are_brought_to_the_host():
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("NumPy brings arrays from devices from 2.1 on")
    np.testing.assert_array_equal(as_result(Elsewhere(), X.dtype), X)
    with pytest.raises(NotAnArrayError, match="a Nowhere that NumPy cannot read: "):
        as_result(Nowhere(), X.dtype)


def test_what_is_computed_in_the_background_is_waited_for():
    waited = []

    class Lazy:
        def block_until_ready(self):
            waited.append(self)

    one, other = Lazy(), Lazy()
    wait_for(one)
    wait_for((one, other))
    wait_for(3.0)
    assert waited == [one, one, other]


# --- jax ---

JAX = """
import jax
import jax.numpy as jnp

@jax.jit
def softmax(x):
    assert isinstance(x, jax.Array)
    e = jnp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
"""


@jax_is_there
def test_kernels_of_jax_in_every_dtype_and_layout(write):
    with Worker(write(JAX)) as worker:
        assert "jax" in worker.description.versions
        for dtype in DTYPES:
            for layout in LAYOUTS[:-1]:
                x = X.astype(as_dtype(dtype))
                reply = worker.call(Call("softmax", (x,), layout=layout, repeat=2))
                assert isinstance(reply, Output), reply
                assert (reply.value.dtype, reply.side_effects, reply.distinct) == (x.dtype, (), None)
                np.testing.assert_allclose(reply.value.astype(float), SOFT, rtol=1e-2)
        assert worker.restarts == 0


@jax_is_there
def test_a_function_of_an_installed_jax_module():
    with Worker("jax.nn:softmax") as worker:
        np.testing.assert_allclose(worker.call(Call("softmax", (X,))).value, SOFT, rtol=1e-14)


@jax_is_there
def test_attention_with_its_heads_behind_the_queries():
    operands = attention_operands("attention", "float64", (2, 4), groups=2)
    lone = tuple(a[0, 0] for a in operands)
    mask = np.tril(np.ones((3, 3), dtype=bool))
    bias = np.where(mask, 0.0, -np.inf)
    with Worker("jax.nn:dot_product_attention", op="attention") as worker:
        for call in (
            Call("attention", operands, {"causal": True}),
            Call("attention", operands, {}, mask=mask),
            Call("attention", operands, {}, mask=bias),
        ):
            # It computes weights in float32, whatever it is given.
            np.testing.assert_allclose(worker.call(call).value, expected(*operands, mask), rtol=1e-5)
        alone = worker.call(Call("attention", lone, {"scale": 0.5}))
        np.testing.assert_allclose(alone.value, expected(*lone), rtol=1e-5)
        crossed = worker.call(Call("attention", attention_operands("attention", "float64", keys=5), {}))
        assert crossed.value.shape == (2, 3, 4)


def expected(q, k, v, mask=None):
    if q.ndim > 2:
        k, v = (np.repeat(a, q.shape[-3] // k.shape[-3], axis=-3) for a in (k, v))
    scores = np.einsum("...ld,...sd->...ls", q, k) / np.sqrt(q.shape[-1])
    scores = scores if mask is None else np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("...ls,...se->...le", weights / weights.sum(-1, keepdims=True), v)


def behind(query, key, value, *, bias=None, causal=False):
    """Attention on (batch, queries, heads, features), which minds any other order."""
    assert query.ndim == 4
    q, k, v = (np.swapaxes(a, -2, -3) for a in (query, key, value))
    assert q.shape[:2] == k.shape[:2]
    mask = np.tril(np.ones((q.shape[-2], k.shape[-2]), dtype=bool)) if causal else None
    return np.swapaxes(expected(q, k, v, mask), -2, -3)


def test_the_place_of_the_heads_is_found_out_without_any_library():
    kernel = AdaptedAttention(behind, "attention")
    for heads in ((), (2,), (3, 2), (2, 3, 2)):
        operands = attention_operands("attention", "float64", heads, queries=2, keys=2)
        np.testing.assert_allclose(kernel(*operands), expected(*operands), rtol=1e-12)
    # A bias alone is no mask, since none of booleans could be given.
    assert kernel.options == ("causal",)


@jax_is_there
def test_a_jax_that_runs_already_is_not_forked():
    code = (
        "import jax.numpy as jnp, numpy as np\n"
        "from softcert.backends import Backend, Worker, load\n"
        "jnp.ones(3).sum()\n"
        "with Worker(load('numpy')) as worker: print(worker.description.name)\n"
        "def softmax(x, axis=-1): return jnp.exp(x)\n"
        "Worker(Backend('mine', {'softmax': softmax})).description\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "numpy\n"
    assert "SubjectError: mine cannot be judged in a fork, since jax has started" in done.stderr
    assert SubjectError.__name__ in done.stderr


# --- where tensors lie ---


def test_a_declared_device_is_where_every_tensor_lies(write):
    subject = write(
        "import torch\nSOFTCERT = {'device': 'cpu'}\n"
        "def softmax(x, axis=-1):\n"
        "    assert isinstance(x, torch.Tensor) and x.device.type == 'cpu'\n"
        "    return torch.softmax(x, axis)\n"
    )
    with Worker(subject) as worker:
        reply = worker.call(Call("softmax", (X,), {"axis": -1}))
    assert isinstance(reply, Output)
    np.testing.assert_allclose(reply.values[0], SOFT, rtol=1e-12)


def test_a_kernel_for_a_device_is_offered_nothing_else():
    assert list(array_kinds("torch:cuda")) == ["torch:cuda"]


@pytest.mark.parametrize("device", ["cuda:99", "gpu", 3.5])
def test_a_device_that_is_not_there_is_refused(write, device):
    subject = write(f"SOFTCERT = {{'device': {device!r}}}\ndef softmax(x, axis=-1):\n    return x\n")
    with pytest.raises(SubjectError, match=r"device .* of SOFTCERT in .* is none of PyTorch's here: "):
        load(subject)
