"""NumPy's attention: the definition to within rounding, special rows, blocks and heads of every shape.

As FlashAttention computes it and with every matrix written out alike.
"""

import math

import numpy as np
import pytest

from softcert.backends import DTYPES, as_dtype, load
from softcert.backends.ops import lse_dtype

OPS = load("numpy").ops
STANDARD = load("numpy-standard").ops
each = pytest.mark.parametrize("ops", [OPS, STANDARD], ids=["numpy", "numpy-standard"])
NAIVE = load("numpy-naive").ops["attention"]
RNG = np.random.default_rng(5)
#: Heads of q and of k, queries, keys, features, columns of v: within one tile, at its border, across.
SHAPES = [(2, 2, 3, 5, 4, 6), (4, 2, 129, 128, 8, 8), (3, 1, 127, 257, 5, 3), (1, 1, 1, 1, 1, 1)]


def operands(shape, dtype="float64"):
    heads, groups, queries, keys, features, columns = shape
    sizes = ((heads, queries, features), (groups, keys, features), (groups, keys, columns))
    return [RNG.normal(size=size).astype(as_dtype(dtype)) for size in sizes]


def direct(q, k, v, *, scale=None, causal=False, mask=None):
    """out, lse and weights by the definition, in binary64, all scores at once."""
    shared = q.shape[-3] // k.shape[-3]
    q, k, v = (x.astype(float) for x in (q, k, v))
    k, v = (np.repeat(x, shared, axis=-3) for x in (k, v))
    s = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if causal:
        length, count = s.shape[-2:]
        s = np.where(np.arange(count) <= np.arange(length)[:, None] + count - length, s, -np.inf)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    top = s.max(axis=-1, keepdims=True)
    weights = np.exp(s - top)
    total = weights.sum(axis=-1, keepdims=True)
    return weights / total @ v, (top + np.log(total))[..., 0], weights / total


def maskings(shape):
    heads, _, queries, keys, *_ = shape
    shown = RNG.random((queries, keys)) < 0.7
    shown[:, 0] = True
    bias = RNG.normal(size=(heads, queries, keys))
    yield {}
    yield {"scale": 0.3}
    yield {"mask": shown}
    yield {"mask": np.where(shown, bias, -np.inf)}
    if keys >= queries:
        yield {"causal": True}


@pytest.mark.parametrize("shape", SHAPES)
@each
def test_out_and_lse_are_those_of_the_definition(ops, shape):
    for options in maskings(shape):
        q, k, v = operands(shape)
        out, lse = ops["attention_lse"](q, k, v, **options)
        exact_out, exact_lse, _ = direct(q, k, v, **options)
        np.testing.assert_allclose(out, exact_out, atol=1e-13)
        np.testing.assert_allclose(lse, exact_lse, atol=1e-13)
        np.testing.assert_array_equal(ops["attention"](q, k, v, **options), out)
        np.testing.assert_allclose(NAIVE(q, k, v, **options), exact_out, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
@each
def test_gradients_are_those_of_the_definition(ops, shape):
    for options in maskings(shape):
        q, k, v = operands(shape)
        out, lse, weights = direct(q, k, v, **options)
        dout = RNG.normal(size=out.shape)
        dq, dk, dv = ops["attention_vjp"](q, k, v, out, lse, dout, **options)
        shared, scale = q.shape[0] // k.shape[0], options.get("scale", 1 / math.sqrt(q.shape[-1]))
        ks, vs = (np.repeat(x, shared, axis=0) for x in (k, v))
        slopes = weights * (dout @ vs.swapaxes(-1, -2) - (dout * out).sum(axis=-1, keepdims=True)) * scale
        gather = (k.shape[0], shared)
        np.testing.assert_allclose(dq, slopes @ ks, atol=1e-13)
        for found, each in ((dk, slopes.swapaxes(-1, -2) @ q), (dv, weights.swapaxes(-1, -2) @ dout)):
            expected = each.reshape(*gather, *each.shape[1:]).sum(axis=1)
            np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@each
def test_shapes_and_dtypes(ops, dtype):
    q, k, v = operands((4, 2, 3, 5, 4, 6), dtype)
    for batch in ((), (2,), (2, 3)):
        arrays = [np.broadcast_to(x, (*batch, *x.shape)) for x in (q, k, v)]
        out, lse = ops["attention_lse"](*arrays)
        assert (out.shape, out.dtype) == ((*batch, 4, 3, 6), q.dtype)
        assert (lse.shape, lse.dtype.name) == ((*batch, 4, 3), lse_dtype(dtype))
        gradients = ops["attention_vjp"](*arrays, out, lse, out)
        assert [(g.shape, g.dtype) for g in gradients] == [(x.shape, x.dtype) for x in arrays]
    out, lse = ops["attention_lse"](q[0], k[0], v[0])
    assert (out.shape, lse.shape) == ((3, 6), (3,))


@pytest.mark.parametrize(("queries", "keys"), [(3, 0), (0, 3)])
@each
def test_no_queries_and_no_keys(ops, queries, keys):
    q, k, v = operands((2, 1, queries, keys, 4, 4))
    out, lse = ops["attention_lse"](q, k, v)
    assert not out.any()
    assert (lse == -np.inf).all()
    assert not any(g.any() for g in ops["attention_vjp"](q, k, v, out, lse, out))


@each
def test_a_query_that_sees_no_key_gives_zeros_and_disturbs_no_other(ops):
    q, k, v = operands((1, 1, 3, 4, 4, 4))
    shown = np.ones((3, 4), dtype=bool)
    shown[1] = False
    out, lse = ops["attention_lse"](q, k, v, mask=shown)
    assert not out[0, 1].any()
    assert lse[0, 1] == -np.inf
    dout = np.ones_like(out)
    dq, dk, dv = ops["attention_vjp"](q, k, v, out, lse, dout, mask=shown)
    assert not dq[0, 1].any()
    others = ops["attention_vjp"](
        *(x[:, [0, 2]] if x is q else x for x in (q, k, v)), *(x[:, [0, 2]] for x in (out, lse, dout))
    )
    np.testing.assert_allclose(dk, others[1], atol=1e-14)
    np.testing.assert_allclose(dv, others[2], atol=1e-14)


@each
def test_huge_scores_overflow_the_naive_form_alone(ops):
    q, k, v = (np.full((1, 2, 4), 50.0, dtype=np.float32) for _ in range(3))
    assert (ops["attention"](q, k, v) == 50.0).all()
    assert np.isnan(NAIVE(q, k, v)).all()


@each
def test_garbage_at_hidden_keys_does_not_matter(ops):
    q, k, v = operands((1, 1, 4, 6, 4, 4), "float32")
    shown = np.arange(6) < 4
    dirty_k, dirty_v = k.copy(), v.copy()
    dirty_k[:, 4:], dirty_v[:, 4:] = 3e38, -3e38
    for mask in (shown, np.where(shown, np.float32(0), np.float32(-np.inf))):
        clean, dirty = (ops["attention_lse"](q, *kv, mask=mask) for kv in ((k, v), (dirty_k, dirty_v)))
        np.testing.assert_array_equal(clean[0], dirty[0])
        gradients = [
            ops["attention_vjp"](q, *kv, *clean, np.ones_like(q), mask=mask)
            for kv in ((k, v), (dirty_k, dirty_v))
        ]
        for one, other in zip(*gradients, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("cut", [0, 1, 130, 200])
def test_parts_merge_to_the_whole(cut):
    q, k, v = operands((2, 1, 5, 200, 4, 4))
    parts = [OPS["attention_lse"](q, k[:, keys], v[:, keys]) for keys in (slice(cut), slice(cut, None))]
    for first, second in (parts, parts[::-1]):
        merged = OPS["attention_merge"](*first, *second)
        for one, other in zip(merged, OPS["attention_lse"](q, k, v), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-14)


def test_an_empty_part_leaves_the_other_as_it_is_whatever_it_holds():
    out, lse = np.ones((1, 2, 3)), np.array([[0.5, -np.inf]])
    merged, total = OPS["attention_merge"](out, lse, np.full_like(out, np.nan), np.full_like(lse, -np.inf))
    np.testing.assert_array_equal(merged, [[[1, 1, 1], [0, 0, 0]]])
    np.testing.assert_array_equal(total, lse)


@each
def test_heads_that_cannot_be_shared_are_refused(ops):
    q, k, v = operands((3, 2, 2, 2, 2, 2))
    with pytest.raises(ValueError, match="3 heads of q cannot share 2"):
        ops["attention"](q, k, v)


def test_standard_attention_computes_its_weights_anew():
    q, k, v = operands((2, 1, 3, 5, 4, 4))
    out, lse = STANDARD["attention_lse"](q, k, v)
    given = STANDARD["attention_vjp"](q, k, v, out, lse, np.ones_like(out))
    others = STANDARD["attention_vjp"](q, k, v, out + 1, lse + 1, np.ones_like(out))
    for one, other in zip(given, others, strict=True):
        np.testing.assert_array_equal(one, other)
