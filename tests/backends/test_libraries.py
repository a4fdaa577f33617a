"""The registered backends of other libraries call what they say they call, in every dtype they declare."""

from inspect import signature

import numpy as np
import pytest

from softcert.backends import as_dtype, available, load
from softcert.backends.harmless import row_operands
from softcert.backends.ops import ATTENTION_OPS, ROW_OPS, SAMPLERS, lse_dtype
from softcert.backends.registry import REGISTERED

X = np.random.default_rng(2).normal(size=(3, 4, 5))
LIBRARIES = [
    pytest.param(name, marks=[pytest.mark.gpu] if entry.gpu else [])
    for name, entry in REGISTERED.items()
    # A slow one has tests of its own.
    if not name.startswith("numpy") and not entry.slow
]
#: Rounding errors of these small sums, in the format of the result.
TOLERANCES = {"float64": 1e-15, "float32": 1e-6, "float16": 4e-3, "bfloat16": 3e-2}
OPTIONS = ({}, {"scale": 0.25}, {"causal": True}, {"mask": np.tri(5, dtype=bool)})
#: Where float64 attention holds something in float32: the softmax, and the default scale.
_INSIDE = {"jax": "float32", "onnxruntime": "float32"}


def loaded(name):
    state = available()[name]
    if not state.runs:
        pytest.skip(state.detail)
    return load(name)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_backend_names_its_library_and_version(name):
    assert all(loaded(name).versions.values())


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_op_of_rows_agrees_with_numpy_within_rounding(name):
    backend, plain = loaded(name), load("numpy")
    # Samplers of two libraries draw other noise.
    for op in set(backend.ops) & set(ROW_OPS) - SAMPLERS:
        for dtype in backend.dtypes:
            for axis in (-1, 0, 1):
                operands = row_operands(op, X.astype(as_dtype(dtype)), axis)
                if op in {"sparsemax_vjp", "entmax_vjp"}:
                    operands = plain.ops["sparsemax"](operands[0], axis=axis), operands[1]
                result, expected = backend.ops[op](*operands, axis=axis), plain.ops[op](*operands, axis=axis)
                assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
                tolerance = 2 * TOLERANCES[dtype]
                np.testing.assert_allclose(
                    result.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance
                )


def attention_operands(op, dtype, options=(), heads=2, groups=2, queries=5, keys=5):
    rng = np.random.default_rng(4)
    q, k, v = (rng.normal(size=(2, h, n, 8)) for h, n in ((heads, queries), (groups, keys), (groups, keys)))
    q, k, v = (x.astype(as_dtype(dtype)) for x in (q, k, v))
    if op in {"attention", "attention_lse"}:
        return q, k, v
    out, lse = load("numpy").ops["attention_lse"](q, k, v, **dict(options))
    return (out, lse, -out, lse + 1) if op == "attention_merge" else (q, k, v, out, lse, q)


def parts(results):
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_op_of_attention_agrees_with_numpy_within_rounding(name):
    backend, plain = loaded(name), load("numpy")
    for op in set(backend.ops) & set(ATTENTION_OPS):
        for dtype in backend.dtypes:
            tolerance = TOLERANCES[_INSIDE.get(name, dtype) if dtype == "float64" else dtype]
            # what JAX compiles anew for each keyword and format takes its time
            for options in OPTIONS if dtype in {"float64", "float32"} else OPTIONS[:1]:
                if not set(options) <= set(signature(backend.ops[op]).parameters):
                    continue
                operands = attention_operands(op, dtype, options)
                results = (parts(b.ops[op](*operands, **options)) for b in (backend, plain))
                for one, other in zip(*results, strict=True):
                    assert one.shape == other.shape
                    np.testing.assert_allclose(one.astype(float), other.astype(float), atol=8 * tolerance)


@pytest.mark.parametrize("name", ["jax", "onnxruntime", "torch-sdpa-flash", "torch-sdpa-math"])
def test_causal_masks_are_aligned_top_left_as_declared(name):
    backend = loaded(name)
    assert backend.contract.causal == "top-left"
    q, k, v = attention_operands("attention", "float32", queries=2, keys=4)
    first = backend.ops["attention"](q, k, v, causal=True)[..., 0, :]
    np.testing.assert_array_equal(first, v[..., 0, :])


def test_flex_attention_aligns_causal_masks_bottom_right_and_hides_what_either_mask_hides():
    flex, plain = loaded("torch-flex"), load("numpy")
    q, k, v = attention_operands("attention", "float32", queries=3, keys=5)
    shown = np.random.default_rng(6).random((2, 1, 3, 5)) < 0.5
    shown[0, 0, 1] = False
    for options in ({"causal": True}, {"mask": shown}, {"mask": shown, "causal": True}):
        results = (b.ops["attention_lse"](q, k, v, **options) for b in (flex, plain))
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_flex_attention_has_no_gradient_on_the_cpu():
    assert "attention_vjp" not in loaded("torch-flex").ops
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    q = torch.zeros(1, 1, 2, 4, requires_grad=True)
    # The reason: if this ever computes, the gradient can be judged.
    with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
        flex_attention(q, q, q)


@pytest.mark.parametrize("name", ["jax", "onnxruntime", "torch-flex", "torch-sdpa-flash", "torch-sdpa-math"])
def test_heads_share_keys_in_order(name):
    backend, plain = loaded(name), load("numpy")
    for op in set(backend.ops) & set(ATTENTION_OPS):
        operands = attention_operands(op, "float32", heads=4, groups=2)
        results = (parts(b.ops[op](*operands)) for b in (backend, plain))
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_flash_kernel_takes_the_lse_it_is_given():
    flash = loaded("torch-sdpa-flash").ops["attention_vjp"]
    q, k, v, out, lse, dout = attention_operands("attention_vjp", "float32")
    dv = flash(q, k, v, out, lse, dout)[2]
    # one more in the lse divides every weight by e
    np.testing.assert_allclose(flash(q, k, v, out, lse + 1, dout)[2], dv / np.e, atol=1e-6)


def test_64_bits_in_jax_are_switched_on_for_the_call_alone():
    backend = loaded("jax")
    import jax

    assert backend.ops["softmax"](X).dtype == np.float64
    assert jax.numpy.ones(1).dtype == np.float32


def test_scikit_learn_does_not_touch_its_input():
    x = np.asfortranarray(X[0])
    before = x.copy()
    loaded("sklearn").ops["softmax"](x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["scipy", "sklearn"])
def test_formats_in_which_sums_stop_are_not_declared(name):
    assert "float16" not in loaded(name).dtypes
    ones = np.zeros((4096, 2), dtype=np.float16)
    if name == "scipy":
        found = pytest.importorskip("scipy.special").softmax(ones, axis=0)
    else:
        found = pytest.importorskip("sklearn.utils.extmath").softmax(np.asfortranarray(ones.T)).T
    # The reason: if this ever fails, the library sums float16 rightly and can be declared for it.
    assert found.astype(float).sum(axis=0)[0] == 2.0


def test_the_formats_declared_have_an_lse():
    assert {lse_dtype(dtype) for dtype in TOLERANCES} == {"float64", "float32"}
