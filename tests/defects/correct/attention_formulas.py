"""Correct attention that has all scores of a query at once: where scale, exponential and division stand."""

import numpy as np
from _attention_common import (
    additive,
    divided,
    finite,
    joined,
    maximum,
    narrow,
    part,
    pose,
    product,
    quiet,
    scores,
    t,
    visible,
    wide,
)


def _weights(p, s):
    """exp(s - m), with m."""
    m = maximum(s)
    return np.exp(s - finite(m)), m


def _finish(p, e, m):
    total = e.sum(axis=-1, keepdims=True)
    return narrow(divided(product(e, p.v, p.seen), total), p.dtype), joined(m, total)


def _hidden(p, s):
    return np.where(p.seen, s, p.q.dtype.type(-np.inf))


@quiet()
def three_passes(q, k, v, *, scale=None, causal=False, mask=None):
    """Maximum, sum, weighted sum: scores are made anew in each pass, in blocks."""
    p = pose(q, k, v, scale, causal, mask)
    blocks = [slice(j, j + 32) for j in range(0, k.shape[-2], 32)]
    m = np.full((*p.q.shape[:-1], 1), -np.inf, p.q.dtype)
    for keys in blocks:
        m = np.maximum(m, maximum(scores(p, keys)))
    total = np.zeros_like(m)
    for keys in blocks:
        total = total + np.exp(scores(p, keys) - finite(m)).sum(axis=-1, keepdims=True)
    out = np.zeros((*p.q.shape[:-1], p.v.shape[-1]), p.q.dtype)
    for keys in blocks:
        weights = divided(np.exp(scores(p, keys) - finite(m)), total)
        out = out + product(weights, p.v[..., keys, :], part(p.seen, keys))
    return narrow(out, p.dtype)


@quiet()
def powers_of_two(q, k, v, *, scale=None, causal=False, mask=None):
    """exp2, with log2(e) folded into the scale."""
    p = pose(q, k, v, scale, causal, mask)
    log2e = p.q.dtype.type(np.log2(np.e))
    s = _hidden(p, p.q @ t(p.k) * (p.scale * log2e) + p.bias * log2e)
    m = maximum(s)
    e = np.exp2(s - finite(m))
    return narrow(divided(product(e, p.v, p.seen), e.sum(axis=-1, keepdims=True)), p.dtype)


@quiet()
def lse_powers_of_two(q, k, v, *, scale=None, causal=False, mask=None):
    """exp2 and log2 throughout, natural only in what is handed back."""
    p = pose(q, k, v, scale, causal, mask)
    log2e, ln2 = p.q.dtype.type(np.log2(np.e)), p.q.dtype.type(np.log(2.0))
    s = _hidden(p, (p.q @ t(p.k) * p.scale + p.bias) * log2e)
    m = maximum(s)
    e = np.exp2(s - finite(m))
    total = e.sum(axis=-1, keepdims=True)
    lse = np.where(total == 0, m, (finite(m) + np.log2(total)) * ln2)[..., 0]
    return narrow(divided(product(e, p.v, p.seen), total), p.dtype), lse


@quiet()
def float64_inside(q, k, v, *, scale=None, causal=False, mask=None):
    """Everything in float64."""
    p = pose(q, k, v, scale, causal, mask, np.float64)
    return _finish(p, *_weights(p, scores(p)))[0]


@quiet()
def lse_float64_inside(q, k, v, *, scale=None, causal=False, mask=None):
    """Everything in float64, lse rounded to the format that is promised."""
    p = pose(q, k, v, scale, causal, mask, np.float64)
    out, lse = _finish(p, *_weights(p, scores(p)))
    return out, lse.astype(wide(q.dtype))


@quiet()
def lse_then_weights(q, k, v, *, scale=None, causal=False, mask=None):
    """lse first, then exp(s - lse), which needs no division."""
    p = pose(q, k, v, scale, causal, mask)
    s = scores(p)
    e, m = _weights(p, s)
    lse = joined(m, e.sum(axis=-1, keepdims=True))
    return narrow(product(np.exp(s - finite(lse[..., None])), p.v, p.seen), p.dtype), lse


def weights_normalized_then_stored(q, k, v, *, scale=None, causal=False, mask=None):
    """Weights divided by their sum and held in the inputs' format before they meet v."""
    p = pose(q, k, v, scale, causal, mask)
    with quiet():
        e, _ = _weights(p, scores(p))
        weights = divided(e, e.sum(axis=-1, keepdims=True)).astype(p.dtype).astype(e.dtype)
        return narrow(product(weights, p.v, p.seen), p.dtype)


def weights_stored_then_normalized(q, k, v, *, scale=None, causal=False, mask=None):
    """Weights held in the inputs' format as they are, the sum taken of the whole ones."""
    p = pose(q, k, v, scale, causal, mask)
    with quiet():
        e, _ = _weights(p, scores(p))
        stored = e.astype(p.dtype).astype(e.dtype)
        return narrow(divided(product(stored, p.v, p.seen), e.sum(axis=-1, keepdims=True)), p.dtype)


def scale_on_q(q, k, v, *, scale=None, causal=False, mask=None):
    """q is scaled once, before all products."""
    p = pose(q, k, v, scale, causal, mask)
    with quiet():
        return _finish(p, *_weights(p, _hidden(p, (p.q * p.scale) @ t(p.k) + p.bias)))[0]


def scale_on_k(q, k, v, *, scale=None, causal=False, mask=None):
    """k is scaled once, as where the cache holds it so."""
    p = pose(q, k, v, scale, causal, mask)
    with quiet():
        return _finish(p, *_weights(p, _hidden(p, p.q @ t(p.k * p.scale) + p.bias)))[0]


def root_of_scale_on_both(q, k, v, *, scale=None, causal=False, mask=None):
    """sqrt(|scale|) on q and k each, its sign on q, so that neither product grows."""
    p = pose(q, k, v, scale, causal, mask)
    root = np.sqrt(np.abs(p.scale))
    with quiet():
        s = (p.q * np.copysign(root, p.scale)) @ t(p.k * root) + p.bias
        return _finish(p, *_weights(p, _hidden(p, s)))[0]


def lse_scale_after_the_product(q, k, v, *, scale=None, causal=False, mask=None):
    """The textbook: product, scale, mask, softmax, product."""
    p = pose(q, k, v, scale, causal, mask)
    with quiet():
        return _finish(p, *_weights(p, scores(p)))


@quiet()
def grouped_heads(q, k, v, *, scale=None, causal=False, mask=None):
    """Queries that share a head stand side by side in one product; k and v are not repeated."""
    p = pose(q, k, v, scale, causal, mask)
    ratio, length = p.ratio, q.shape[-2]
    keys, values = (
        p.k[..., ::ratio, :, :] if ratio > 1 else p.k,
        p.v[..., ::ratio, :, :] if ratio > 1 else p.v,
    )
    folded = p.q.reshape(*keys.shape[:-2], ratio * length, q.shape[-1])
    raw = (folded @ t(keys)).reshape(*p.q.shape[:-1], k.shape[-2])
    e, _ = _weights(p, _hidden(p, raw * p.scale + p.bias))
    if np.isfinite(values).all():
        acc = e.reshape(*keys.shape[:-2], ratio * length, k.shape[-2]) @ values
        acc = acc.reshape(*p.q.shape[:-1], v.shape[-1])
    else:
        acc = product(e, p.v, p.seen)
    return narrow(divided(acc, e.sum(axis=-1, keepdims=True)), p.dtype)


@quiet()
def keys_by_queries(q, k, v, *, scale=None, causal=False, mask=None):
    """Scores are held as (S, L): the softmax runs down the columns."""
    p = pose(q, k, v, scale, causal, mask)
    s = np.ascontiguousarray(t(_hidden(p, t(p.k @ t(p.q)) * p.scale + p.bias)))
    m = s.max(axis=-2, keepdims=True, initial=-np.inf)
    e = np.exp(s - finite(m))
    acc, total = product(t(e), p.v, p.seen), t(e.sum(axis=-2, keepdims=True))
    return narrow(divided(acc, total), p.dtype)


@quiet()
def textbook_without_groups(q, k, v, *, scale=None, causal=False, mask=None):
    """Broadcasts one head of keys to all of the queries, and refuses 4 heads against 2."""
    work = wide(q.dtype)
    factor = work.type(q.shape[-1] ** -0.5 if scale is None else scale)
    seen = visible(q.shape[-2], k.shape[-2], causal, mask)
    s = (q.astype(work) @ t(k.astype(work))) * factor + additive(mask, work)
    s = np.where(seen, s, work.type(-np.inf))
    m = maximum(s)
    e = np.exp(s - finite(m))
    p = divided(e, e.sum(axis=-1, keepdims=True))
    return narrow(product(p, np.broadcast_to(v.astype(work), (*p.shape[:-2], *v.shape[-2:])), seen), q.dtype)


@quiet()
def q_scaled_in_its_own_format(q, k, v, *, scale=None, causal=False, mask=None):
    """q is scaled and stored in the inputs' format, as the contract says."""
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    p = pose((q * q.dtype.type(factor)).astype(q.dtype), k, v, 1.0, causal, mask)
    s = _hidden(p, p.q @ t(p.k) + p.bias)
    e, m = _weights(p, s)
    return _finish(p, e, m)[0]
