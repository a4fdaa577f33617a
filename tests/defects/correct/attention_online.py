"""Correct attention in one pass over blocks of keys: backwards, lazily rescaled, split and merged."""

import itertools

import numpy as np
from _attention_common import divided, finite, joined, maximum, narrow, part, pose, product, quiet, scores


def _step(p, state, keys):
    """Takes one block of keys into (accumulator, maximum, sum)."""
    acc, m, total = state
    s = scores(p, keys)
    new = np.maximum(m, maximum(s))
    safe = finite(new)
    factor, e = np.exp(m - safe), np.exp(s - safe)
    acc = acc * factor + product(e, p.v[..., keys, :], part(p.seen, keys))
    return acc, new, total * factor + e.sum(axis=-1, keepdims=True)


def _start(p):
    shape, work = np.broadcast_shapes(p.q.shape[:-1], (*p.v.shape[:-2], 1)), p.q.dtype
    return (
        np.zeros((*shape, p.v.shape[-1]), work),
        np.full((*shape, 1), -np.inf, work),
        np.zeros((*shape, 1), work),
    )


def _blocks(start, stop, width):
    return [slice(j, min(j + width, stop)) for j in range(start, stop, width)]


@quiet()
def _online(p, blocks):
    state = _start(p)
    for keys in blocks:
        state = _step(p, state, keys)
    return state


def _pair(p, state):
    acc, m, total = state
    with quiet():
        return narrow(divided(acc, total), p.dtype), joined(m, total)


def key_by_key(q, k, v, *, scale=None, causal=False, mask=None):
    """One key at a time, as a decoder without blocks does."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _online(p, _blocks(0, k.shape[-2], 1)))[0]


def blocks_of_16(q, k, v, *, scale=None, causal=False, mask=None):
    """Sixteen keys at a time."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _online(p, _blocks(0, k.shape[-2], 16)))[0]


def blocks_of_64(q, k, v, *, scale=None, causal=False, mask=None):
    """Sixty-four keys at a time."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _online(p, _blocks(0, k.shape[-2], 64)))[0]


def blocks_of_128(q, k, v, *, scale=None, causal=False, mask=None):
    """A hundred and twenty-eight keys at a time."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _online(p, _blocks(0, k.shape[-2], 128)))[0]


def keys_backwards(q, k, v, *, scale=None, causal=False, mask=None):
    """Blocks of 32 from the last to the first, as kernels do that mask their first block only."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _online(p, _blocks(0, k.shape[-2], 32)[::-1]))[0]


def blocks_in_a_shuffled_order(q, k, v, *, scale=None, causal=False, mask=None):
    """Blocks of 8 in an order that only their number decides."""
    p = pose(q, k, v, scale, causal, mask)
    blocks = _blocks(0, k.shape[-2], 8)
    return _pair(p, _online(p, sorted(blocks, key=lambda keys: keys.start // 8 * 7919 % 31)))[0]


def hidden_blocks_skipped(q, k, v, *, scale=None, causal=False, mask=None):
    """Blocks that no query sees are never read."""
    p = pose(q, k, v, scale, causal, mask)
    blocks = [keys for keys in _blocks(0, k.shape[-2], 16) if part(p.seen, keys).any()]
    return _pair(p, _online(p, blocks))[0]


@quiet()
def rescaled_when_needed(q, k, v, *, scale=None, causal=False, mask=None):
    """The reference point moves only when weights would exceed 2**8, as in FlashAttention-4."""
    p = pose(q, k, v, scale, causal, mask)
    acc, m, total = _start(p)
    limit = p.q.dtype.type(8 * np.log(2.0))
    for keys in _blocks(0, k.shape[-2], 16):
        s = scores(p, keys)
        own = np.maximum(m, maximum(s))
        new = np.where(own - finite(m) > limit, own, np.where(np.isneginf(m), own, m))
        safe = finite(new)
        factor, e = np.exp(m - safe), np.exp(s - safe)
        acc = acc * factor + product(e, p.v[..., keys, :], part(p.seen, keys))
        total = total * factor + e.sum(axis=-1, keepdims=True)
        m = new
    return _pair(p, (acc, m, total))[0]


def _merged(a, b):
    """Two states over disjoint keys as one."""
    m = np.maximum(a[1], b[1])
    left, right = np.exp(a[1] - finite(m)), np.exp(b[1] - finite(m))
    return a[0] * left + b[0] * right, m, a[2] * left + b[2] * right


@quiet()
def _split(p, parts):
    count = p.k.shape[-2]
    edges = [count * i // parts for i in range(parts + 1)]
    return [_online(p, _blocks(start, stop, 16)) for start, stop in itertools.pairwise(edges)] or [_start(p)]


@quiet()
def _tree(states):
    while len(states) > 1:
        pairs = [_merged(*states[i : i + 2]) for i in range(0, len(states) - 1, 2)]
        states = pairs + states[len(pairs) * 2 :]
    return states[0]


def split_in_eight_and_merged_in_a_tree(q, k, v, *, scale=None, causal=False, mask=None):
    """Eight parts of the keys, some of them empty where keys are few, merged two by two."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _tree(_split(p, 8)))[0]


def split_in_three_and_merged_in_turn(q, k, v, *, scale=None, causal=False, mask=None):
    """Three parts of the keys, each merged into what came before."""
    p = pose(q, k, v, scale, causal, mask)
    first, second, third = _split(p, 3)
    with quiet():
        return _pair(p, _merged(_merged(first, second), third))[0]


def lse_blocks_of_64(q, k, v, *, scale=None, causal=False, mask=None):
    """out and lse from blocks of 64."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _online(p, _blocks(0, k.shape[-2], 64)))


def lse_split_in_five(q, k, v, *, scale=None, causal=False, mask=None):
    """out and lse from five parts merged in a tree."""
    p = pose(q, k, v, scale, causal, mask)
    return _pair(p, _tree(_split(p, 5)))


@quiet()
def lse_split_by_partial_lse(q, k, v, *, scale=None, causal=False, mask=None):
    """Two parts normalized on their own, weighted by exp(lse - maximum of both) as in split-KV decoding."""
    p = pose(q, k, v, scale, causal, mask)
    outs, lses = [], []
    for acc, m, total in _split(p, 2):
        outs.append(divided(acc, total))
        lses.append(joined(m, total)[..., None])
    m = np.maximum(*lses)
    weights = [np.exp(lse - finite(m)) for lse in lses]
    total = weights[0] + weights[1]
    out = divided(outs[0] * weights[0] + outs[1] * weights[1], total)
    return narrow(out, p.dtype), joined(m, total)


@quiet()
def from_the_lowest_float(q, k, v, *, scale=None, causal=False, mask=None):
    """The running maximum starts at the lowest finite float; hidden weights are set to 0."""
    p = pose(q, k, v, scale, causal, mask)
    acc, _, total = _start(p)
    m = np.full_like(total, np.finfo(p.q.dtype).min)
    for keys in _blocks(0, k.shape[-2], 48):
        s, seen = scores(p, keys), part(p.seen, keys)
        new = np.maximum(m, maximum(s))
        factor, e = np.exp(m - new), np.where(seen, np.exp(s - new), p.q.dtype.type(0))
        acc = acc * factor + product(e, p.v[..., keys, :], seen)
        m, total = new, total * factor + e.sum(axis=-1, keepdims=True)
    return narrow(divided(acc, total), p.dtype)
