"""Operands of attention: shapes, heads, masks and the scale, made exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from softcert.reference.attention_scores import Score
from softcert.reference.errors import DomainError
from softcert.reference.formats import FloatFormat
from softcert.reference.operands import Floats, as_floats
from softcert.reference.softmax import exact_factor
from softcert.reference.tensors import is_tensor, tensor_as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: What `causal` may be. True is "bottom-right".
CAUSAL = (False, True, "bottom-right", "top-left")


class Scale(NamedTuple):
    """The real number rational / sqrt(radicand); the radicand is 1, or no square."""

    rational: Fraction
    radicand: int


def scale_of(scale: float | Fraction | None, depth: int) -> Scale:
    """Exact scale: the number given, or the real number 1/sqrt(depth).

    Raises
    ------
    DomainError : not a finite number, or none given and depth 0.
    """
    if scale is not None:
        try:
            return Scale(exact_factor(scale), 1)
        except DomainError as error:
            raise DomainError(str(error).replace("beta=", "scale=", 1)) from None
    if depth == 0:
        raise DomainError("scale has to be given where q and k have no features: 1/sqrt(0) is no number")
    root = math.isqrt(depth)
    return Scale(Fraction(1, root), 1) if root * root == depth else Scale(Fraction(1), depth)


@dataclass(frozen=True)
class Heads:
    """Operands with all batch axes and heads taken as one.

    Attributes
    ----------
    q : (H, L, D). k : (G, S, D). v : (G, S, Dv). Head h of q sees head h // (H // G) of k and v.
    visible : (H, L, S), whether a query sees a key.
    bias : (H, L, S), what is added to the scores.
    scale : the exact scale.
    fmt : the widest of the formats of q, k and v.
    batch, kv_batch : leading axes of q, and of k and v, as they were.
    """

    q: Floats
    k: Floats
    v: Floats
    visible: NDArray[np.bool_]
    bias: Floats
    scale: Scale
    fmt: FloatFormat
    batch: tuple[int, ...]
    kv_batch: tuple[int, ...]

    @property
    def sharing(self) -> int:
        """How many heads of q share one of k and v."""
        return len(self.q) // len(self.k) if len(self.k) else 1

    def scores(self, head: int) -> list[dict[int, Score | None]]:
        """For each query of a head the exact score of each key it sees; None where it is no number."""
        keys = self.k[head // self.sharing]
        finite_k = np.isfinite(keys).all(axis=-1)
        k_integers, k_exponent = _integers(keys)
        q_integers, q_exponent = _integers(self.q[head])
        unit = Fraction(2) ** (k_exponent + q_exponent)
        rows = []
        for i, query in enumerate(q_integers):
            defined = finite_k & np.isfinite(self.q[head, i]).all() & np.isfinite(self.bias[head, i])
            row: dict[int, Score | None] = {}
            for j in np.flatnonzero(self.visible[head, i]).tolist():
                dot = unit * sum(a * b for a, b in zip(query, k_integers[j], strict=True))
                row[j] = self._score(dot, float(self.bias[head, i, j])) if defined[j] else None
            rows.append(row)
        return rows

    def _score(self, dot: Fraction, bias: float) -> Score:
        product, added = dot * self.scale.rational, Fraction(bias)
        return Score(product, added) if self.scale.radicand > 1 else Score(Fraction(0), product + added)


def _integers(array: Floats) -> tuple[list[list[int]], int]:
    """Rows of integers n and an exponent e with array == n * 2**e; 0 for what is not finite."""
    finite = np.where(np.isfinite(array), array, 0.0)
    ratios = [[value.as_integer_ratio() for value in row] for row in finite.tolist()]
    places = max((d.bit_length() - 1 for row in ratios for _, d in row), default=0)
    return [[n << (places + 1 - d.bit_length()) for n, d in row] for row in ratios], -places


def fractions_of(values: Sequence[float]) -> list[Fraction] | None:
    """Exact values of floats; None where one is not finite."""
    return [Fraction(v) for v in values] if all(map(math.isfinite, values)) else None


def widest(formats: Sequence[FloatFormat]) -> FloatFormat:
    """The format of the highest precision."""
    return max(formats, key=lambda fmt: fmt.precision)


def heads_of(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    scale: float | Fraction | None,
    causal: bool | str,
    mask: ArrayLike | None,
) -> Heads:
    """Check and flatten the operands of attention.

    Raises
    ------
    DomainError : shapes that do not fit together, an unsupported dtype, or an unknown `causal`.
    """
    (queries, q_fmt), (keys, k_fmt), (values, v_fmt) = as_floats(q, "q"), as_floats(k, "k"), as_floats(v, "v")
    _check_shapes(queries.shape, keys.shape, values.shape)
    batch, kv_batch = queries.shape[:-2], keys.shape[:-2]
    shape = (*batch, queries.shape[-2], keys.shape[-2])
    visible, bias = _mask(mask, shape)
    visible &= _causal(causal, *shape[-2:])
    return Heads(
        _flat(queries),
        _flat(keys),
        _flat(values),
        _flat(visible),
        _flat(bias),
        scale_of(scale, queries.shape[-1]),
        widest([q_fmt, k_fmt, v_fmt]),
        batch,
        kv_batch,
    )


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """All axes but the last two taken as one, which may be of length 0."""
    return array.reshape(math.prod(array.shape[:-2]), *array.shape[-2:])


def _check_shapes(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> None:
    if min(len(q), len(k), len(v)) < 2:
        raise DomainError(f"q, k and v need two axes or more, and have shapes {q}, {k} and {v}")
    if k[:-1] != v[:-1]:
        raise DomainError(f"k of shape {k} and v of shape {v} differ in more than the last axis")
    if q[-1] != k[-1]:
        raise DomainError(f"q of shape {q} and k of shape {k} have different numbers of features")
    if len(q) != len(k) or q[:-3] != k[:-3]:
        raise DomainError(f"q of shape {q} and k of shape {k} have different batch axes")
    if len(q) > 2 and q[-3] != k[-3] and (k[-3] == 0 or q[-3] % k[-3]):
        raise DomainError(f"q has {q[-3]} heads, which is no multiple of the {k[-3]} heads of k and v")


def _causal(causal: object, length: int, keys: int) -> NDArray[np.bool_]:
    """(L, S): which keys precede each query."""
    if not isinstance(causal, (bool, np.bool_, str)) or causal not in CAUSAL:
        raise DomainError(f"causal={causal!r} is not one of {', '.join(map(repr, CAUSAL))}")
    offset = 0 if causal == "top-left" else keys - length
    if not causal:
        return np.ones((length, keys), dtype=np.bool_)
    return np.arange(keys) <= np.arange(length)[:, np.newaxis] + offset


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], Floats]:
    """Which keys a mask leaves visible, and what it adds to the scores."""
    if mask is None:
        return np.ones(shape, dtype=np.bool_), np.zeros(shape)
    array = tensor_as_array(mask, "mask") if is_tensor(mask) else _as_given(mask)
    if array.dtype == np.bool_:
        return _spread(array, shape), np.zeros(shape)
    bias = _spread(as_floats(mask, "mask")[0], shape)
    return bias != -math.inf, bias


def _as_given(mask: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(mask)
    except (ValueError, TypeError):
        return as_floats(mask, "mask")[0]  # which says in one sentence what is wrong


def _spread(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return np.broadcast_to(array, shape).copy()
    except ValueError:
        raise DomainError(f"mask of shape {array.shape} does not broadcast to {shape}") from None
