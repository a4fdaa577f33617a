"""Correct attention whose sums are taken in an unusual way: pairwise, compensated, by query, by rank."""

import numpy as np
from _attention_common import divided, finite, joined, maximum, narrow, pose, product, quiet, scores, t


@quiet()
def _pairwise(a):
    """The sum over the first axis, halves added to halves."""
    while len(a) > 1:
        half = (len(a) + 1) // 2
        rest = a[half:]
        a = np.concatenate([a[: len(rest)] + rest, a[len(rest) : half]])
    return a[0]


@quiet()
def _kahan(terms):
    """The compensated sum of a list of arrays; what is not finite keeps its plain sum."""
    total = np.zeros_like(terms[0])
    plain, lost = total, total
    for term in terms:
        y = term - lost
        new = total + y
        plain = plain + term
        lost = (new - total) - y
        total = new
    return np.where(np.isfinite(plain), total, plain)


def _terms(p, e):
    """The products of weights and values, key by key, 0 where hidden."""
    seen = np.broadcast_to(p.seen, e.shape)
    return [
        np.where(seen[..., j, None], e[..., j, None] * p.v[..., j, None, :], e.dtype.type(0))
        for j in range(p.v.shape[-2])
    ]


def _both(p, add):
    s = scores(p)
    m = maximum(s)
    e = np.exp(s - finite(m))
    total = add([e[..., j, None] for j in range(e.shape[-1])])
    return narrow(divided(add(_terms(p, e)), total), p.dtype), joined(m, total)


@quiet()
def pairwise_sums(q, k, v, *, scale=None, causal=False, mask=None):
    """Row sums and outputs are added as balanced trees."""
    p = pose(q, k, v, scale, causal, mask)
    return _both(p, lambda terms: _pairwise(np.stack(terms)))[0]


@quiet()
def compensated_sums(q, k, v, *, scale=None, causal=False, mask=None):
    """Row sums and outputs are added as Kahan does."""
    return _both(pose(q, k, v, scale, causal, mask), _kahan)[0]


@quiet()
def lse_pairwise_sums(q, k, v, *, scale=None, causal=False, mask=None):
    """out and lse from balanced trees."""
    p = pose(q, k, v, scale, causal, mask)
    return _both(p, lambda terms: _pairwise(np.stack(terms)))


@quiet()
def scores_feature_by_feature(q, k, v, *, scale=None, causal=False, mask=None):
    """Scores are a sum of outer products, one a feature, the last feature first."""
    p = pose(q, k, v, scale, causal, mask)
    s = np.zeros((*p.q.shape[:-1], p.k.shape[-2]), p.q.dtype)
    for d in reversed(range(q.shape[-1])):
        s = s + p.q[..., d : d + 1] * t(p.k[..., d : d + 1])
    s = np.where(p.seen, s * p.scale + p.bias, p.q.dtype.type(-np.inf))
    e = np.exp(s - finite(maximum(s)))
    return narrow(divided(product(e, p.v, p.seen), e.sum(axis=-1, keepdims=True)), p.dtype)


@quiet()
def _row_by_row(p, row):
    """One query at a time: `row` gets a query, the keys and values that it sees and their scores' bias."""
    shape = p.q.shape[:-1]
    seen = np.broadcast_to(p.seen, (*shape, p.k.shape[-2]))
    bias = np.broadcast_to(p.bias, seen.shape)
    out = np.zeros((*shape, p.v.shape[-1]), p.q.dtype)
    lse = np.full(shape, -np.inf, p.q.dtype)
    for index in np.ndindex(shape):
        keys = np.flatnonzero(seen[index])
        if keys.size:
            out[index], lse[index] = row(
                p.q[index], p.k[index[:-1]][keys], p.v[index[:-1]][keys], bias[index][keys]
            )
    return narrow(out, p.dtype), lse


def query_by_query(q, k, v, *, scale=None, causal=False, mask=None):
    """Each query gathers the keys that it sees; a hidden one is never read."""
    p = pose(q, k, v, scale, causal, mask)

    def row(query, keys, values, bias):
        s = keys @ query * p.scale + bias
        e = np.exp(s - s.max())
        return e @ values / e.sum(), 0

    return _row_by_row(p, row)[0]


def lse_query_by_query(q, k, v, *, scale=None, causal=False, mask=None):
    """out and lse of each query from the keys that it sees, smallest weight first."""
    p = pose(q, k, v, scale, causal, mask)

    def row(query, keys, values, bias):
        s = keys @ query * p.scale + bias
        order = np.argsort(s)
        e = np.exp(s[order] - s.max())
        total = np.add.accumulate(e)[-1]
        return e @ values[order] / total, s.max() + np.log(total)

    return _row_by_row(p, row)


def lse_largest_apart(q, k, v, *, scale=None, causal=False, mask=None):
    """The largest weight, exactly 1, stands apart: lse = m + log1p(rest)."""
    p = pose(q, k, v, scale, causal, mask)

    def row(query, keys, values, bias):
        s = keys @ query * p.scale + bias
        top = s.argmax()
        e = np.exp(s - s[top])
        rest = np.delete(e, top).sum()
        return e @ values / (1 + rest), s[top] + np.log1p(rest)

    return _row_by_row(p, row)


@quiet()
def lse_by_logaddexp(q, k, v, *, scale=None, causal=False, mask=None):
    """lse by np.logaddexp in float64, weights from it."""
    p = pose(q, k, v, scale, causal, mask, np.float64)
    s = scores(p)
    lse = np.logaddexp.reduce(s, axis=-1, keepdims=True, initial=-np.inf)
    work = np.float32 if q.dtype.itemsize == 2 else q.dtype
    out = product(np.exp(s - finite(lse)), p.v, p.seen)
    return narrow(out, p.dtype), lse[..., 0].astype(work)
