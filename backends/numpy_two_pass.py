"""The softmax in NumPy in two passes and without a maximum: exponentials whose exponent stands apart.

Each exponential is a pair, exp(x) = m 2^n with n an integer and |log m| < log 2, which no logit
overflows. The first pass adds the pairs up, block by block,

    n' = max(n, max n_i)
    m' = 2^(n - n') m + sum 2^(n_i - n') m_i

and the second gives m_i / m 2^(n_i - n) (M. Dukhan & A. Ablavatski, arXiv:2001.04438, algorithm 3).
Products with powers of two are exact. The paper has the softmax alone: of a logarithm, log m + n log 2
would keep little where the sum is near 1, so that there the largest logit is carried along. 16-bit inputs
are computed and summed in float32 and rounded once at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.numpy_ import softmax_jvp, softmax_vjp
from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.numpy_scores import blocks, finite
from softcert.backends.ops import DTYPES
from softcert.backends.types import Array, Backend

#: Logits of one block.
_BLOCK = 256
_LOG_2 = np.log(2.0)
#: Of a pair that stands for 0, and of an empty sum; below that of every other.
_NOWHERE = np.finfo(np.float64).min
#: A power of two that makes 0 of every number.
_VANISHING = -5000.0


def two_pass_backend() -> Backend:
    """Backend `numpy-two-pass`: sums of pairs; the gradient has no exponential, and is `numpy`'s.

    n is no longer exact for float64 logits beyond 2^50: a change of base ahead of the subtraction, as form
    "any" allows.
    """
    return Backend(
        name="numpy-two-pass",
        ops={
            "softmax": softmax,
            "log_softmax": log_softmax,
            "logsumexp": logsumexp,
            "softmax_vjp": softmax_vjp,
            "softmax_jvp": softmax_jvp,
        },
        dtypes=DTYPES,
        contract=Contract(),
        versions={"numpy": np.__version__},
    )


def softmax(x: Array, axis: int = -1) -> Array:
    """Softmax m_i / m 2^(n_i - n) along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`. A NaN makes the whole row NaN, a +inf its own place; a row of
    -inf only is NaN, and a -inf logit among finite ones gets exactly 0.
    """
    with np.errstate(all="ignore"):
        rows = widen(np.moveaxis(x, axis, -1))
        (total, _), terms = _sum(rows), _Pairs.of(rows)
        return np.moveaxis(narrow(terms.scaled(total.exponent, terms.m / total.m), x), -1, axis)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """Logarithm of the softmax, (x_i - a) - log(sum / exp(a)), a the largest logit, along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`; special values as for `softmax`, 0 becoming -inf.
    """
    with np.errstate(all="ignore"):
        rows = widen(np.moveaxis(x, axis, -1))
        total, largest = _sum(rows)
        return np.moveaxis(narrow((rows - largest) - np.log(_over(total, largest)), x), -1, axis)


def logsumexp(x: Array, axis: int = -1) -> Array:
    """Log-sum-exp, a + log(sum / exp(a)), a the largest logit, along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is summed over.

    Returns
    -------
    An array of the dtype of `x` without that axis: -inf for a row of -inf only and for an empty one, +inf
    where a logit is +inf, NaN where one is NaN.
    """
    with np.errstate(all="ignore"):
        total, largest = _sum(widen(np.moveaxis(x, axis, -1)))
        return narrow((finite(largest) + np.log(_over(total, largest)))[..., 0], x)


@dataclass(frozen=True)
class _Pairs:
    """Numbers m 2^n, kept as m and n log 2.

    Attributes
    ----------
    m : of the dtype computed in; what is no finite power, 0, inf and NaN, stands here alone.
    exponent : n log 2 in float64, whose range holds that of every logit, where n itself could overflow.
    """

    m: Array
    exponent: Array

    @classmethod
    def of(cls, x: Array) -> _Pairs:
        """exp(x)."""
        wide = x.astype(np.float64, copy=False)
        # exact: what the exponent holds then errs by its own rounding alone, which `scaled` rounds away
        rest = np.fmod(wide, _LOG_2)
        ordinary = np.isfinite(x)
        return cls(
            np.where(ordinary, np.exp(rest), np.exp(wide)).astype(x.dtype, copy=False),
            np.where(ordinary, wide - rest, np.where(np.isneginf(x), _NOWHERE, 0.0)),
        )

    def scaled(self, exponent: Array, m: Array) -> Array:
        """2^(n - n') m, where n' log 2 is the exponent given, no smaller than this one."""
        powers = np.rint(np.maximum((self.exponent - exponent) / _LOG_2, _VANISHING))
        return np.asarray(np.ldexp(m, powers.astype(np.int32)))


def _sum(rows: Array) -> tuple[_Pairs, Array]:
    """Sum of the exponentials of each row, and its largest logit, (..., 1)."""
    shape = (*rows.shape[:-1], 1)
    total = _Pairs(np.zeros(shape, rows.dtype), np.full(shape, _NOWHERE))
    largest = np.full(shape, -np.inf, rows.dtype)
    for columns in blocks(rows.shape[-1], _BLOCK):
        terms = _Pairs.of(rows[..., columns])
        risen = np.maximum(total.exponent, np.max(terms.exponent, axis=-1, keepdims=True))
        added = np.sum(terms.scaled(risen, terms.m), axis=-1, keepdims=True)
        total = _Pairs(total.scaled(risen, total.m) + added, risen)
        largest = np.maximum(largest, np.max(rows[..., columns], axis=-1, keepdims=True))
    return total, largest


def _over(total: _Pairs, largest: Array) -> Array:
    """A sum over its largest term, whose power of two is the sum's; m where that term is not finite."""
    return np.asarray(total.m / np.where(np.isfinite(largest), _Pairs.of(largest).m, largest.dtype.type(1)))
