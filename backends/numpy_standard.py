"""Attention in NumPy with every matrix of its definition written out, S, P and O, and the naive form.

Forward: S = scale q k^T, P = softmax(S) by rows, O = P v. Backward: dv = P^T dO, dP = dO v^T, dS = P (dP
- sum P dP), dq = scale dS k, dk = scale dS^T q, of a P that is computed anew, as autograd differentiates
the three steps (T. Dao et al., arXiv:2205.14135, algorithms 0 and 3). Memory grows with the product of
both lengths; `numpy_attention` computes the same without those matrices. 16-bit inputs are computed and
summed in float32 and rounded once at the end.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.numpy_scores import Problem, divided, finite
from softcert.backends.ops import DTYPES
from softcert.backends.types import Array, Backend


def standard_backend() -> Backend:
    """Backend `numpy-standard`: attention that holds S and P, forward and backward."""
    return Backend(
        name="numpy-standard",
        ops={"attention": attention, "attention_lse": attention_lse, "attention_vjp": attention_vjp},
        dtypes=DTYPES,
        contract=Contract(form="division", rematerialized=False),
        versions={"numpy": np.__version__},
    )


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Attention softmax(scale q k^T) v, without its lse.

    Parameters, special values and errors are those of `attention_lse`.

    Returns
    -------
    (..., L, Dv), of the dtype of `q`.
    """
    return attention_lse(q, k, v, scale=scale, causal=causal, mask=mask)[0]


def attention_lse(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Attention and the logarithm of the sum of exp(scores), every score at once.

    Parameters
    ----------
    q : (..., H, L, D), or (L, D), of a floating dtype.
    k, v : (..., G, S, D) and (..., G, S, Dv), G a divisor of H: head h of q sees head h // (H / G).
    scale : 1 / sqrt(D) by default.
    causal : query i sees key j iff j <= i + S - L.
    mask : broadcasts to (..., H, L, S); booleans, True where seen, or numbers that are added to scores.

    Returns
    -------
    out (..., L, Dv) of the dtype of `q`, and lse (..., L), float32 for 16-bit inputs, else of the same
    dtype: 0 and -inf for a query that sees no key.

    Raises
    ------
    ValueError : the shapes do not go together.
    """
    problem = Problem.of(q, k, v, scale, causal, mask)
    with np.errstate(all="ignore"):
        p, lse = _softmax(problem.all_scores())
        o = p @ problem.v
        return o.reshape(*q.shape[:-1], v.shape[-1]).astype(q.dtype, copy=False), lse.reshape(q.shape[:-1])


def attention_vjp(
    q: Array,
    k: Array,
    v: Array,
    out: Array,  # noqa: ARG001 - P is computed anew, and sum P dP takes the place of sum out dout
    lse: Array,  # noqa: ARG001 - see above
    dout: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Gradient of attention, step by step backwards through the definition.

    Parameters
    ----------
    out, lse : not used. dout : cotangent of out, (..., L, Dv).
    q, k, v, scale, causal, mask : those of `attention_lse`.

    Returns
    -------
    dq, dk and dv, of the shapes and dtype of q, k and v; keys that no query sees get exactly 0.

    Raises
    ------
    ValueError : the shapes do not go together.
    """
    problem = Problem.of(q, k, v, scale, causal, mask)
    work = problem.q.dtype
    do = dout.astype(work, copy=False).reshape(*problem.q.shape[:-1], v.shape[-1])
    with np.errstate(all="ignore"):
        s = problem.all_scores()
        p, _ = _softmax(s)
        dv = p.swapaxes(-1, -2) @ do
        # the product with a hidden value may be infinite, and 0 * inf is NaN
        dp = np.where(np.isneginf(s), work.type(0), do @ problem.v.swapaxes(-1, -2))
        ds = p * (dp - np.sum(p * dp, axis=-1, keepdims=True))
        dq = (ds @ problem.k) * problem.scale
        dk = (ds.swapaxes(-1, -2) @ problem.q) * problem.scale
        return (
            dq.reshape(q.shape).astype(q.dtype, copy=False),
            np.sum(dk, axis=-3).reshape(k.shape).astype(k.dtype, copy=False),
            np.sum(dv, axis=-3).reshape(v.shape).astype(v.dtype, copy=False),
        )


def naive_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Attention as the formula reads, exp(scores) / sum exp(scores) times v: wrong as soon as exp overflows.

    Parameters
    ----------
    q, k, v, scale, causal, mask : those of `attention_lse`.

    Returns
    -------
    (..., L, Dv), of the dtype of `q`: NaN where every exponential underflows, or one overflows.
    """
    problem = Problem.of(q, k, v, scale, causal, mask)
    with np.errstate(all="ignore"):
        terms = np.exp(problem.all_scores())
        weights = terms / np.sum(terms, axis=-1, keepdims=True)
        result: Array = (weights @ problem.v).astype(q.dtype, copy=False)
        return result.reshape(*q.shape[:-1], v.shape[-1])


def _softmax(s: Array) -> tuple[Array, Array]:
    """P, the softmax of each row of S, and lse (..., L, 1); 0 and -inf for a row of -inf."""
    m = np.max(s, axis=-1, keepdims=True, initial=-np.inf)
    terms = np.exp(s - finite(m))
    ell = np.sum(terms, axis=-1, keepdims=True)
    return divided(terms, ell), finite(m) + np.log(ell)
