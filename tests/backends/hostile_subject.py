"""A sound softmax and attention in binary64 that turn hostile for binary32: `act` is put in by the tests."""

import ctypes
import gc  # noqa: F401 - like those below, for what the tests put in
import io  # noqa: F401
import json  # noqa: F401
import locale  # noqa: F401
import mmap  # noqa: F401
import os
import random  # noqa: F401
import signal  # noqa: F401
import socket  # noqa: F401
import struct  # noqa: F401
import subprocess
import sys  # noqa: F401
import tempfile  # noqa: F401
import threading  # noqa: F401
import time
import warnings  # noqa: F401

import numpy as np

LIBC = ctypes.CDLL(None)
LIBM = ctypes.CDLL("libm.so.6")
EXP = np.exp
CALLS = []
KEPT = []


def act(op, given, honest):
    """Answer a call of `op` on `given`, which `honest()` would answer soundly."""
    return honest()  # the act


def seldom(op):
    """Whether this is one of the first calls of an op: what costs a process is not done for hundreds."""
    CALLS.append(op)
    return CALLS.count(op) < 8


def each(change, results):
    """The results, each changed."""
    return tuple(map(change, results)) if isinstance(results, tuple) else change(results)


def first_of(results):
    """The first of one or several results."""
    return results[0] if isinstance(results, tuple) else results


def detached(*arguments, **options):
    """Start a process that sleeps for long, in a session of its own."""
    options = {"start_new_session": True, **options}
    return subprocess.Popen(
        ["sleeper-" + os.environ["ZOO"], "61"], executable=os.environ["ZOO_SLEEPER"], **options
    )


def daemon(body=lambda: time.sleep(61)):
    """Leave a process behind that nobody here is the parent of."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork() == 0:
        body()
    os._exit(0)


def _answer(op, given, honest):
    return act(op, given, honest) if given[0].dtype == np.float32 else honest()


def softmax(x, axis=-1):
    def honest():
        wide = x.astype(np.float64)
        with np.errstate(all="ignore"):
            e = EXP(wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf))
            return (e / e.sum(axis=axis, keepdims=True)).astype(x.dtype)

    return _answer("softmax", (x,), honest)


def _repeated(a, q):
    return np.repeat(a.astype(np.float64), q.shape[-3] // a.shape[-3], axis=-3) if a.ndim > 2 else a * 1.0


def _scores(q, k, scale, causal, mask):
    scores = np.matmul(q.astype(np.float64), np.swapaxes(k, -1, -2))
    scores *= 1.0 / np.sqrt(q.shape[-1]) if scale is None else scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask.astype(np.float64)
    if causal:
        rows, columns = scores.shape[-2:]
        scores = np.where(np.tri(rows, columns, columns - rows, dtype=bool), scores, -np.inf)
    return scores


def _forward(q, k, v, options):
    with np.errstate(all="ignore"):
        scores = _scores(q, _repeated(k, q), *options)
        top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
        weights = EXP(scores - np.where(np.isfinite(top), top, 0.0))
        total = weights.sum(axis=-1, keepdims=True)
        out = np.matmul(weights, _repeated(v, q)) / np.where(total == 0.0, 1.0, total)
        lse = (np.log(total) + np.where(np.isfinite(top), top, 0.0))[..., 0]
    return out.astype(q.dtype), lse.astype(q.dtype)


def attention(q, k, v, *, scale=None, causal=False, mask=None):
    return _answer("attention", (q, k, v), lambda: _forward(q, k, v, (scale, causal, mask))[0])


def attention_lse(q, k, v, *, scale=None, causal=False, mask=None):
    return _answer("attention_lse", (q, k, v), lambda: _forward(q, k, v, (scale, causal, mask)))


def attention_vjp(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    def grouped(gradient, like):
        groups = like.shape[-3] if like.ndim > 2 else 0
        if not groups or gradient.shape[-3] == groups:
            return gradient.astype(like.dtype)
        shape = (*like.shape[:-3], groups, -1, *gradient.shape[-2:])
        return gradient.reshape(shape).sum(axis=-3).astype(like.dtype)

    def honest():
        with np.errstate(all="ignore"):
            keys, wide = _repeated(k, q), dout.astype(np.float64)
            scores = _scores(q, keys, scale, causal, mask)
            weights = np.where(scores == -np.inf, 0.0, EXP(scores - lse.astype(np.float64)[..., None]))
            delta = (wide * out.astype(np.float64)).sum(axis=-1, keepdims=True)
            inner = weights * (np.matmul(wide, np.swapaxes(_repeated(v, q), -1, -2)) - delta)
            inner *= 1.0 / np.sqrt(q.shape[-1]) if scale is None else scale
            dk = np.matmul(np.swapaxes(inner, -1, -2), q.astype(np.float64))
            dv = np.matmul(np.swapaxes(weights, -1, -2), wide)
            return np.matmul(inner, keys).astype(q.dtype), grouped(dk, k), grouped(dv, v)

    return _answer("attention_vjp", (q, k, v, out, lse, dout), honest)
