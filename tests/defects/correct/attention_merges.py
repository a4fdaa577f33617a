"""Correct merges of partial attention: by the larger lse, logaddexp, a sigmoid, in float64."""

import numpy as np


def _wide(a):
    return a.astype(np.float32) if a.dtype.itemsize == 2 else a


def _zero(lse):
    return np.where(np.isfinite(lse), lse, lse.dtype.type(0))


def _weighted(out_a, wa, out_b, wb):
    """wa out_a + wb out_b, in which a part of no weight does not count, whatever it holds."""
    a = np.where(wa[..., None] > 0, _wide(out_a) * wa[..., None], wa.dtype.type(0))
    b = np.where(wb[..., None] > 0, _wide(out_b) * wb[..., None], wb.dtype.type(0))
    return (a + b).astype(out_a.dtype)


@np.errstate(all="ignore")
def by_the_larger(out_a, lse_a, out_b, lse_b):
    """Both parts are moved to the larger lse, added, and divided by their sum."""
    m = np.maximum(lse_a, lse_b)
    ea, eb = np.exp(lse_a - _zero(m)), np.exp(lse_b - _zero(m))
    total = ea + eb
    some = total > 0
    safe = np.where(some, total, total.dtype.type(1))
    return _weighted(out_a, ea / safe, out_b, eb / safe), np.where(some, m + np.log(safe), m)


@np.errstate(all="ignore")
def by_logaddexp(out_a, lse_a, out_b, lse_b):
    """The common lse first, each part weighted by exp(own - common)."""
    lse = np.logaddexp(lse_a, lse_b)
    return _weighted(out_a, np.exp(lse_a - _zero(lse)), out_b, np.exp(lse_b - _zero(lse))), lse


@np.errstate(all="ignore")
def by_a_sigmoid(out_a, lse_a, out_b, lse_b):
    """The weights are the sigmoids of the difference of the two lse and of its negative."""
    none = np.isneginf(lse_a) & np.isneginf(lse_b)
    d = np.where(none, lse_a.dtype.type(0), lse_b - lse_a)
    one = d.dtype.type(1)
    wa, wb = one / (one + np.exp(d)), one / (one + np.exp(-d))
    lse = np.maximum(lse_a, lse_b) + np.log1p(np.exp(-np.abs(d)))
    return _weighted(out_a, wa, out_b, wb), lse


@np.errstate(all="ignore")
def in_float64(out_a, lse_a, out_b, lse_b):
    """Everything in float64, rounded once."""
    a, b = lse_a.astype(np.float64), lse_b.astype(np.float64)
    lse = np.logaddexp(a, b)
    out = _weighted(
        out_a.astype(np.float64), np.exp(a - _zero(lse)), out_b.astype(np.float64), np.exp(b - _zero(lse))
    )
    return out.astype(out_a.dtype), lse.astype(lse_a.dtype)


@np.errstate(all="ignore")
def moved_towards_the_other(out_a, lse_a, out_b, lse_b):
    """The part of the larger lse, moved towards the other by the share of the smaller."""
    swap = lse_b > lse_a
    m, low = np.maximum(lse_a, lse_b), np.minimum(lse_a, lse_b)
    e = np.where(np.isneginf(low), m.dtype.type(0), np.exp(low - _zero(m)))
    share = (e / (m.dtype.type(1) + e))[..., None]
    a, b = _wide(out_a), _wide(out_b)
    large, small = np.where(swap[..., None], b, a), np.where(swap[..., None], a, b)
    one = share.dtype.type(1)
    out = np.where(share > 0, large * (one - share) + small * share, large)
    return out.astype(out_a.dtype), m + np.log1p(e)
