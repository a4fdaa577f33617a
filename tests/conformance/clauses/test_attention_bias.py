"""Kernels that keep every bound and lean to one side are told from those whose roundings cancel."""

import ml_dtypes
import numpy as np
import pytest

import softcert
from softcert.backends import Backend, Contract
from softcert.conformance.clauses.attention_bias import FALSE_ALARM, critical_rank, leaning

NARROW = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def nearest(array, dtype):
    return array.astype(dtype).astype(array.dtype)


def towards_zero(array, dtype):
    rounded = array.astype(dtype)
    inward = np.nextafter(rounded, np.zeros((), dtype))
    return np.where(np.abs(rounded.astype(array.dtype)) > np.abs(array), inward, rounded).astype(array.dtype)


def weights_of(q, k, scale):
    wide = np.float64 if q.dtype == np.float64 else np.float32
    factor = wide(q.shape[-1] ** -0.5 if scale is None else scale)
    return (q.astype(wide) @ k.astype(wide).swapaxes(-1, -2)) * factor


def attention_lse(store=lambda p: p, exp=np.exp, product=np.matmul, unnormalized=lambda acc: acc):
    """Attention without masks, some of whose steps can be exchanged."""

    def kernel(q, k, v, *, scale=None):
        s = weights_of(q, k, scale)
        top = s.max(axis=-1, keepdims=True)
        p = exp(s - top)
        total = p.sum(axis=-1, keepdims=True)
        out = unnormalized(product(store(p), v.astype(p.dtype))) / total
        return out.astype(q.dtype), (top + np.log(total))[..., 0]

    return kernel


def attention_vjp(store):
    """The gradient without masks, its weights stored for dv."""

    def kernel(q, k, v, out, lse, dout, *, scale=None):
        s = weights_of(q, k, scale)
        factor = s.dtype.type(q.shape[-1] ** -0.5 if scale is None else scale)
        p = np.exp(s - lse[..., np.newaxis].astype(s.dtype))
        wide = dout.astype(s.dtype)
        delta = (wide * out.astype(s.dtype)).sum(axis=-1, keepdims=True)
        ds = p * (wide @ v.astype(s.dtype).swapaxes(-1, -2) - delta) * factor
        dq, dk = ds @ k.astype(s.dtype), ds.swapaxes(-1, -2) @ q.astype(s.dtype)
        dv = store(p).swapaxes(-1, -2) @ wide
        return tuple(a.astype(q.dtype) for a in (dq, dk, dv))

    return kernel


def truncating_product(p, v):
    """Sums of one product after the other, each cut to float32."""
    acc = np.zeros((*p.shape[:-1], v.shape[-1]))
    for j in range(p.shape[-1]):
        term = p[..., j : j + 1].astype(np.float64) * v[..., j : j + 1, :]
        acc = towards_zero(acc + term, np.float32)
    return acc.astype(p.dtype)


def judged(kernel, op, dtype, clause, **contract):
    backend = Backend("kernel", {op: kernel}, (dtype,), Contract(**contract))
    (verdict,) = softcert.check(backend, ops=[op], clauses=[clause], profile="smoke").verdicts
    return verdict


@pytest.mark.parametrize("dtype", NARROW)
def test_truncated_weights_are_told_from_rounded_ones(dtype):
    of = NARROW[dtype]
    kernels = (attention_lse(lambda p: towards_zero(p, of)), attention_lse(lambda p: nearest(p, of)))
    cut, rounded = (judged(kernel, "attention_lse", dtype, "bias.attention") for kernel in kernels)
    assert cut.status == "fail"
    assert "out of attention_lse leans towards zero" in cut.message
    assert rounded.status == "pass", rounded.message
    assert cut.statistics["bias"]["mean_ulp"] < -0.3
    assert abs(rounded.statistics["bias"]["mean_ulp"]) < 0.05


def test_truncated_weights_keep_every_bound():
    kernel = attention_lse(lambda p: towards_zero(p, ml_dtypes.bfloat16))
    verdict = judged(kernel, "attention_lse", "bfloat16", "attention.values")
    assert verdict.status == "pass", verdict.message


@pytest.mark.parametrize("how", [towards_zero, nearest])
def test_truncated_weights_of_a_gradient_are_told_from_rounded_ones(how):
    kernel = attention_vjp(lambda p: how(p, ml_dtypes.bfloat16))
    verdict = judged(kernel, "attention_vjp", "bfloat16", "bias.attention-gradient")
    assert verdict.status == ("fail" if how is towards_zero else "pass"), verdict.message


def test_sums_that_truncate_lean_towards_zero():
    verdict = judged(attention_lse(product=truncating_product), "attention_lse", "float32", "bias.attention")
    assert verdict.status == "fail"
    assert "leans towards zero" in verdict.message


@pytest.mark.parametrize(("relative", "status"), [(2.0**-17, "fail"), (2.0**-21, "pass")])
def test_an_exponential_that_is_always_high_shows_in_lse_beyond_its_contract(relative, status):
    kernel = attention_lse(exp=lambda x: np.exp(x) * x.dtype.type(1.0 + relative))
    assert judged(kernel, "attention_lse", "float32", "attention.values").status == "pass"
    verdict = judged(kernel, "attention_lse", "float32", "bias.attention")
    assert verdict.status == status, verdict.message
    assert status == "pass" or "lse of attention_lse leans up" in verdict.message


def test_outputs_stored_before_they_are_divided_lean_where_two_keys_share_the_maximum():
    promised = {"attention_weights": "float32"}
    kernel = attention_lse(unnormalized=lambda acc: nearest(acc, ml_dtypes.bfloat16))
    verdict = judged(kernel, "attention_lse", "bfloat16", "bias.attention", **promised)
    assert verdict.status == "fail"
    assert "leans away from zero" in verdict.message
    plain = judged(attention_lse(), "attention_lse", "bfloat16", "bias.attention", **promised)
    assert plain.status == "pass", plain.message


def test_nothing_is_said_of_sums_so_narrow_that_they_stagnate():
    verdict = judged(attention_lse(), "attention_lse", "float16", "bias.attention", accumulator="float16")
    assert verdict.status == "skip"
    assert "stagnate" in verdict.message


@pytest.mark.parametrize("count", [1, 16, 40, 256, 512])
def test_the_critical_rank_is_that_of_fair_coins(count):
    binom = pytest.importorskip("scipy.stats").binom
    rank = critical_rank(count, FALSE_ALARM)
    rng = np.random.default_rng(count)
    assert rank == 0 or binom.cdf(rank - 1, count, 0.5) <= FALSE_ALARM
    assert binom.cdf(rank, count, 0.5) > FALSE_ALARM
    errors = rng.standard_normal((200, count))
    found = [leaning(row, row, np.full(count, 1e-6)) for row in errors]
    assert not any(one.error[0] > one.bound for one in found)
