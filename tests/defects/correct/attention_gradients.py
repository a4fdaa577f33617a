"""Correct backward passes of attention: by columns, by rows, in two kernels, by powers of two, by groups."""

import numpy as np
from _attention_common import finite, gathered, narrow, part, pose, product, quiet, scores, t


def _pose(q, k, v, out, lse, dout, scale, causal, mask, work=None):
    """The problem, D and lse as columns, dout in the format computed in; 0 for blind rows."""
    p = pose(q, k, v, scale, causal, mask, work)
    work = p.q.dtype
    dout, lse = dout.astype(work), lse.astype(work)[..., None]
    blind = ~np.broadcast_to(p.seen, (*p.q.shape[:-1], p.k.shape[-2])).any(axis=-1, keepdims=True)
    zero = work.type(0)
    dout = np.where(blind, zero, dout)
    delta = (dout * np.where(blind, zero, out.astype(work))).sum(axis=-1, keepdims=True)
    return p._replace(q=np.where(blind, zero, p.q)), dout, finite(lse), delta


def _weights(p, lse, keys=slice(None)):
    return np.exp(scores(p, keys) - lse)


def _gradient_of_scores(p, weights, dout, delta, keys=slice(None)):
    dp = dout @ t(p.v[..., keys, :])
    return np.where(part(p.seen, keys), weights * (dp - delta), p.q.dtype.type(0))


def _results(p, dq, dk, dv):
    dk, dv = gathered(dk, p.ratio), gathered(dv, p.ratio)
    return tuple(narrow(a, p.dtype) for a in (dq, dk, dv))


@quiet()
def whole_matrix(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """All weights at once, heads repeated."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    weights = _weights(p, lse)
    ds = _gradient_of_scores(p, weights, dout, delta)
    return _results(p, product(ds, p.k, p.seen) * p.scale, t(ds) @ p.q * p.scale, t(weights) @ dout)


def _columns(p, dout, lse, delta, width):
    dq, dks, dvs = np.zeros_like(p.q), [], []
    for start in range(0, p.k.shape[-2], width):
        keys = slice(start, start + width)
        weights = _weights(p, lse, keys)
        ds = _gradient_of_scores(p, weights, dout, delta, keys)
        dvs.append(t(weights) @ dout)
        dks.append(t(ds) @ p.q * p.scale)
        dq = dq + product(ds, p.k[..., keys, :], part(p.seen, keys)) * p.scale
    return dq, np.concatenate(dks, axis=-2), np.concatenate(dvs, axis=-2)


@quiet()
def columns_of_16(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """Sixteen keys at a time; dq is carried from block to block."""
    p, *rest = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    return _results(p, *_columns(p, *rest, 16))


@quiet()
def columns_of_128(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """A hundred and twenty-eight keys at a time, as in FlashAttention-2."""
    p, *rest = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    return _results(p, *_columns(p, *rest, 128))


def _rows(p, rows):
    """The problem of some queries."""

    def cut(a):
        return a if np.ndim(a) < 2 or a.shape[-2] == 1 else a[..., rows, :]

    return p._replace(q=p.q[..., rows, :], seen=cut(p.seen), bias=cut(p.bias))


@quiet()
def rows_of_16(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """Sixteen queries at a time; dk and dv are carried from block to block."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    dk, dv, dqs = np.zeros_like(p.k), np.zeros_like(p.v), []
    for start in range(0, q.shape[-2], 16):
        rows = slice(start, start + 16)
        some = _rows(p, rows)
        weights = _weights(some, lse[..., rows, :])
        ds = _gradient_of_scores(some, weights, dout[..., rows, :], delta[..., rows, :])
        dqs.append(product(ds, p.k, some.seen) * p.scale)
        dk = dk + t(ds) @ some.q * p.scale
        dv = dv + t(weights) @ dout[..., rows, :]
    return _results(p, np.concatenate(dqs, axis=-2), dk, dv)


@quiet()
def two_kernels(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """One kernel for dq by rows and one for dk and dv by columns; both make the weights anew."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    dqs = []
    for start in range(0, q.shape[-2], 32):
        rows = slice(start, start + 32)
        some = _rows(p, rows)
        weights = _weights(some, lse[..., rows, :])
        ds = _gradient_of_scores(some, weights, dout[..., rows, :], delta[..., rows, :])
        dqs.append(product(ds, p.k, some.seen) * p.scale)
    _, dk, dv = _columns(p, dout, lse, delta, 64)
    return _results(p, np.concatenate(dqs, axis=-2), dk, dv)


@quiet()
def powers_of_two(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """Weights by exp2 of scores and lse in base 2; the natural scale comes back in dq and dk alone."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    log2e = p.q.dtype.type(np.log2(np.e))
    s = p.q @ t(p.k) * (p.scale * log2e) + p.bias * log2e
    weights = np.exp2(np.where(p.seen, s, p.q.dtype.type(-np.inf)) - lse * log2e)
    ds = _gradient_of_scores(p, weights, dout, delta)
    return _results(p, product(ds, p.k, p.seen) * p.scale, t(ds) @ p.q * p.scale, t(weights) @ dout)


@quiet()
def float64_inside(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """Everything in float64."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask, np.float64)
    weights = _weights(p, lse)
    ds = _gradient_of_scores(p, weights, dout, delta)
    return _results(p, product(ds, p.k, p.seen) * p.scale, t(ds) @ p.q * p.scale, t(weights) @ dout)


@quiet()
def scale_on_the_operands(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """k * scale serves dq, q * scale serves the scores and dk."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    scaled = p.q * p.scale
    s = np.where(p.seen, scaled @ t(p.k) + p.bias, p.q.dtype.type(-np.inf))
    weights = np.exp(s - lse)
    ds = _gradient_of_scores(p, weights, dout, delta)
    return _results(p, product(ds, p.k * p.scale, p.seen), t(ds) @ scaled, t(weights) @ dout)


@quiet()
def stored_weights(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """Weights and their gradients are held in the inputs' format before they meet a matrix."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    weights = _weights(p, lse)
    ds = _gradient_of_scores(p, weights, dout, delta).astype(p.dtype).astype(dout.dtype)
    stored = weights.astype(p.dtype).astype(dout.dtype)
    return _results(p, product(ds, p.k, p.seen) * p.scale, t(ds) @ p.q * p.scale, t(stored) @ dout)


@quiet()
def grouped_heads(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """The heads that share a key are one long sequence of queries, so that no sum over heads remains."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    weights = _weights(p, lse)
    ds = _gradient_of_scores(p, weights, dout, delta)
    dq = product(ds, p.k, p.seen) * p.scale
    if p.ratio == 1:
        return _results(p, dq, t(ds) @ p.q * p.scale, t(weights) @ dout)

    def long(a):
        return a.reshape(*k.shape[:-2], p.ratio * q.shape[-2], a.shape[-1])

    dk, dv = t(long(ds)) @ long(p.q) * p.scale, t(long(weights)) @ long(dout)
    return tuple(narrow(a, p.dtype) for a in (dq, dk, dv))


@quiet()
def key_by_key(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    """One key at a time, by outer products."""
    p, dout, lse, delta = _pose(q, k, v, out, lse, dout, scale, causal, mask)
    dq, dk, dv = np.zeros_like(p.q), np.zeros_like(p.k), np.zeros_like(p.v)
    for j in range(k.shape[-2]):
        keys = slice(j, j + 1)
        seen = np.broadcast_to(p.seen, (*p.q.shape[:-1], p.k.shape[-2]))[..., keys]
        weights = _weights(p, lse, keys)
        dp = (dout * p.v[..., keys, :]).sum(axis=-1, keepdims=True)
        ds = np.where(seen, weights * (dp - delta), p.q.dtype.type(0)) * p.scale
        dv[..., j, :] = (weights * dout).sum(axis=-2)
        dk[..., j, :] = (ds * p.q).sum(axis=-2)
        dq += np.where(seen, ds * p.k[..., keys, :], p.q.dtype.type(0))
    return _results(p, dq, dk, dv)
