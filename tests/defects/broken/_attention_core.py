"""The right attention, forward, in blocks, backward and merged; each step can be exchanged."""

import numpy as np

_quiet = np.errstate(all="ignore")


def wide(dtype):
    """The format computed in."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def to_bits(a, bits, how=np.rint):
    """Significands of so many bits: 8 in bfloat16, 11 in float16, 4 in float8 e4m3."""
    mantissa, exponent = np.frexp(a)
    return np.ldexp(how(np.ldexp(mantissa, bits)), exponent - bits).astype(a.dtype)


def t(a):
    """The last two axes exchanged."""
    return np.swapaxes(a, -1, -2)


def own_group(heads, groups):
    """The key head of each query head."""
    return np.arange(heads) // (heads // groups)


def bottom_right(i, j, shift):
    """Query i sees key j, where shift is S - L."""
    return j <= i + shift


def default_scale(q, k, v):
    """1 / sqrt(D)."""
    return 1 / np.sqrt(q.shape[-1])


def factor(scale, q, k, v):
    """The scale given or the default one."""
    return default_scale(q, k, v) if scale is None else scale


def spread(a, q, group=own_group):
    """Key or value heads repeated for each query head."""
    if q.ndim < 3 or q.shape[-3] == a.shape[-3]:
        return a
    return np.take(a, group(q.shape[-3], a.shape[-3]), axis=-3)


def hidden(length, count, causal, mask, visible=bottom_right):
    """What is hidden from each query."""
    hide = np.zeros((length, count), bool)
    if causal:
        i, j = np.ogrid[:length, :count]
        hide = ~visible(i, j, count - length) | hide
    if mask is not None:
        hide = hide | (~mask if mask.dtype == bool else np.isneginf(mask.astype(np.float32)))
    return hide


def bias_of(mask, work):
    """What the mask adds to visible scores."""
    if mask is None or mask.dtype == bool:
        return work.type(0)
    return np.where(np.isneginf(mask.astype(np.float32)), 0, mask.astype(work)).astype(work)


def product(weights, values, hide):
    """weights @ values; what is hidden does not count, not even NaN."""
    if np.isfinite(values).all():
        return weights @ values
    hide = np.broadcast_to(hide, weights.shape)[..., None]
    rows = [
        np.where(hide[..., i, :, :], 0, weights[..., i, :, None] * values).sum(axis=-2)
        for i in range(weights.shape[-2])
    ]
    return np.stack(rows, axis=-2).astype(values.dtype)


def dot(q, k):
    """q k^T."""
    return q @ t(k)


def scaled(raw, scale, bias):
    """Scores from products."""
    return raw * scale + bias


def kept(s, hide):
    """-inf where hidden."""
    return np.where(hide, s.dtype.type(-np.inf), s)


def row_max(s):
    """The row maximum, 0 where nothing is seen."""
    m = s.max(axis=-1, keepdims=True, initial=-np.inf)
    return np.where(np.isneginf(m), s.dtype.type(0), m)


def row_sum(e):
    """The row sum."""
    return e.sum(axis=-1, keepdims=True)


def same(a):
    """Nothing is done."""
    return a


def quotient(acc, total):
    """acc / total, 0 for an empty row."""
    return acc / np.where(total == 0, total.dtype.type(1), total)


def log_sum(m, total):
    """m + log(total), -inf for an empty row."""
    return m + np.log(total)


def cast(out, dtype):
    """Rounded to the dtype of the inputs."""
    return out.astype(dtype)


@_quiet
def forward(
    q,
    k,
    v,
    scale=None,
    causal=False,
    mask=None,
    *,
    group=own_group,
    visible=bottom_right,
    hide=hidden,
    bias=bias_of,
    scale_of=factor,
    raw=dot,
    score=scaled,
    keep=kept,
    top=row_max,
    exp=np.exp,
    total=row_sum,
    stored=same,
    mix=product,
    divide=quotient,
    lse=log_sum,
    finish=cast,
):
    """(out, lse) from the whole matrix of scores."""
    work = wide(q.dtype)
    factor_ = work.type(scale_of(scale, q, k, v))
    qw, kw, vw = (a.astype(work) for a in (q, spread(k, q, group), spread(v, q, group)))
    unseen = hide(q.shape[-2], k.shape[-2], causal, mask, visible)
    s = keep(score(raw(qw, kw), factor_, bias(mask, work)), unseen)
    m = top(s)
    e = exp(s - m)
    n = total(e)
    out = divide(mix(stored(e), vw, unseen), n)
    return finish(out, q.dtype), lse(m, n)[..., 0]


def weighted(old, rescale, new):
    """What was summed, moved to the new maximum, and the new block."""
    return old * rescale + new


def larger(m, own, index):
    """The running maximum."""
    return np.maximum(m, own)


def rescaling(m, new, last):
    """exp(m - new), 0 before anything was seen; `last` says whether this is the last block."""
    return np.exp(m - np.where(np.isneginf(new), new.dtype.type(0), new))


def starts_of(count, width):
    """The first key of each block."""
    return list(range(0, count, width))


@_quiet
def online(
    q,
    k,
    v,
    scale=None,
    causal=False,
    mask=None,
    *,
    width=16,
    starts=starts_of,
    maximum=larger,
    rescale=rescaling,
    add_out=weighted,
    add_sum=weighted,
    block_exp=np.exp,
    carry=same,
    stored=same,
    total=row_sum,
    divide=quotient,
    lse=log_sum,
    empty_below=0,
):
    """(out, lse) from blocks of keys with a running maximum."""
    work = wide(q.dtype)
    factor_ = work.type(factor(scale, q, k, v))
    q_, k_, v_ = (a.astype(work) for a in (q, spread(k, q), spread(v, q)))
    unseen = np.broadcast_to(hidden(q.shape[-2], k.shape[-2], causal, mask), (*q.shape[:-1], k.shape[-2]))
    s = kept(scaled(dot(q_, k_), factor_, bias_of(mask, work)), unseen)
    m = np.full((*q.shape[:-1], 1), -np.inf, work)
    n, acc = np.zeros_like(m), np.zeros((*q.shape[:-1], v.shape[-1]), work)
    for index, start in enumerate(starts(k.shape[-2], width)):
        keys = slice(start, start + width)
        own = s[..., keys].max(axis=-1, keepdims=True, initial=-np.inf)
        new = maximum(m, own, index)
        f = rescale(m, new, start + width >= k.shape[-2])
        e = block_exp(s[..., keys] - np.where(np.isneginf(new), work.type(0), new))
        acc = carry(add_out(acc, f, product(stored(e), v_[..., keys, :], unseen[..., keys])))
        n = carry(add_sum(n, f, total(e)))
        m = new
    return cast(divide(acc, n), q.dtype), np.where(
        n == 0, -np.inf, lse(np.where(np.isneginf(m), 0, m), n)
    ).astype(work)[..., 0]


def weights_from_lse(s, lse):
    """exp(s - lse), 0 in rows that see nothing."""
    return np.exp(s - np.where(np.isneginf(lse), lse.dtype.type(0), lse))


def row_dot(dout, out):
    """D, the sum of dout * out."""
    return (dout * out).sum(axis=-1, keepdims=True)


def score_gradient(p, dp, delta):
    """P * (dP - D)."""
    return p * (dp - delta)


def zeroed(ds, hide):
    """0 where hidden."""
    return np.where(hide, ds.dtype.type(0), ds)


def gather(a, like, groups=None):
    """The sum over the query heads that share a key head."""
    if a.ndim < 3 or a.shape[-3] == like.shape[-3]:
        return a
    return a.reshape(*a.shape[:-3], like.shape[-3], -1, *a.shape[-2:]).sum(axis=-3)


@_quiet
def backward(
    q,
    k,
    v,
    out,
    lse,
    dout,
    scale=None,
    causal=False,
    mask=None,
    *,
    group=own_group,
    hide=hidden,
    visible=bottom_right,
    bias=bias_of,
    scale_of=factor,
    raw=dot,
    score=scaled,
    keep=kept,
    weights=weights_from_lse,
    delta=row_dot,
    dp=dot,
    ds=score_gradient,
    zero=zeroed,
    for_dv=same,
    dq_of=lambda ds, k, scale, hide: product(ds, k, hide) * scale,
    dk_of=lambda ds, q, scale: t(ds) @ q * scale,
    dv_of=lambda p, dout: t(p) @ dout,
    gather_k=gather,
    gather_v=gather,
    finish=cast,
):
    """(dq, dk, dv) from the whole matrix of weights."""
    work = wide(q.dtype)
    factor_ = work.type(scale_of(scale, q, k, v))
    qw, kw, vw = (a.astype(work) for a in (q, spread(k, q, group), spread(v, q, group)))
    ow, gw, lw = out.astype(work), dout.astype(work), lse.astype(work)[..., None]
    unseen = hide(q.shape[-2], k.shape[-2], causal, mask, visible)
    p = weights(keep(score(raw(qw, kw), factor_, bias(mask, work)), unseen), lw)
    g = zero(ds(p, dp(gw, vw), delta(gw, ow)), unseen)
    dq = dq_of(g, kw, factor_, unseen)
    dk, dv = dk_of(g, qw, factor_), dv_of(for_dv(p), gw)
    return finish(dq, q.dtype), finish(gather_k(dk, k), q.dtype), finish(gather_v(dv, v), q.dtype)


@_quiet
def merge(
    out_a,
    lse_a,
    out_b,
    lse_b,
    *,
    reference=np.maximum,
    exp=np.exp,
    total=np.add,
    lse=log_sum,
    blend=lambda a, wa, b, wb, n: (a * wa + b * wb) / np.where(n == 0, n.dtype.type(1), n),
    finish=cast,
):
    """(out, lse) over the union of two disjoint sets of keys."""
    work = wide(out_a.dtype)
    m = reference(lse_a, lse_b)
    m = np.where(np.isneginf(m), m.dtype.type(0), m)
    wa, wb = exp(lse_a - m), exp(lse_b - m)
    n = total(wa, wb)
    columns = [x[..., None].astype(work) for x in (wa, wb, n)]
    out = blend(out_a.astype(work), columns[0], out_b.astype(work), columns[1], columns[2])
    return finish(out, out_a.dtype), lse(m, n)


def make_attention(compute=forward, **steps):
    """attention with some steps exchanged."""

    def attention(q, k, v, *, scale=None, causal=False, mask=None):
        return compute(q, k, v, scale, causal, mask, **steps)[0]

    return attention


def make_lse(compute=forward, **steps):
    """attention_lse with some steps exchanged."""

    def attention_lse(q, k, v, *, scale=None, causal=False, mask=None):
        return compute(q, k, v, scale, causal, mask, **steps)

    return attention_lse


def make_vjp(**steps):
    """attention_vjp with some steps exchanged."""

    def attention_vjp(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
        return backward(q, k, v, out, lse, dout, scale, causal, mask, **steps)

    return attention_vjp


def make_merge(**steps):
    """attention_merge with some steps exchanged."""

    def attention_merge(out_a, lse_a, out_b, lse_b):
        return merge(out_a, lse_a, out_b, lse_b, **steps)

    return attention_merge
