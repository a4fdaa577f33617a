"""Operands of attention: shapes, heads, masks and the scale, made exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from softcert.reference.attention_scores import Score
from softcert.reference.attention_visibility import Visibility, visibility
from softcert.reference.errors import DomainError
from softcert.reference.formats import FloatFormat
from softcert.reference.operands import Floats, as_floats
from softcert.reference.softmax import exact_factor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


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
    seen : which keys a query sees, and what is added to their scores.
    scale : the exact scale.
    fmt : the widest of the formats of q, k and v.
    batch, kv_batch : leading axes of q, and of k and v, as they were.
    """

    q: Floats
    k: Floats
    v: Floats
    seen: Visibility
    scale: Scale
    fmt: FloatFormat
    batch: tuple[int, ...]
    kv_batch: tuple[int, ...]

    @property
    def sharing(self) -> int:
        """How many heads of q share one of k and v."""
        return len(self.q) // len(self.k) if len(self.k) else 1

    def scores(self, head: int, query: int) -> dict[int, Score | None]:
        """Exact score of each key that a query sees, by the key's place; None where it is no number."""
        keys, bias = self.seen.of_query(head, query)
        return {j: self.score(head, query, j, b) for j, b in zip(keys.tolist(), bias.tolist(), strict=True)}

    def score(self, head: int, query: int, key: int, bias: float) -> Score | None:
        """Exact score of one pair, given what is added to it; None where it is no number."""
        integers, exponent = self._exact_query(head, query)
        others, other_exponent = self._exact_key(head // self.sharing, key)
        if integers is None or others is None or not math.isfinite(bias):
            return None
        total = sum(a * b for a, b in zip(integers, others, strict=True))
        product = Fraction(2) ** (exponent + other_exponent) * total * self.scale.rational
        added = Fraction(bias)
        return Score(product, added) if self.scale.radicand > 1 else Score(Fraction(0), product + added)

    def _exact_query(self, head: int, query: int) -> _ExactRow:
        return _remembered(self._exact, ("q", head, query), self.q)

    def _exact_key(self, head: int, key: int) -> _ExactRow:
        return _remembered(self._exact, ("k", head, key), self.k)

    @cached_property
    def _exact(self) -> dict[tuple[str, int, int], _ExactRow]:
        return {}


@dataclass(frozen=True)
class BackwardOperands:
    """Operands of the backward pass, heads flattened.

    Attributes
    ----------
    out : (H, L, Dv). lse : (H, L). dout : (H, L, Dv).
    """

    heads: Heads
    out: Floats
    lse: Floats
    dout: Floats


#: A row's integers n and an exponent e with row == n * 2**e; None where it holds what is no number.
_ExactRow = tuple[list[int] | None, int]


def _remembered(
    known: dict[tuple[str, int, int], _ExactRow], name: tuple[str, int, int], array: Floats
) -> _ExactRow:
    if name not in known:
        known[name] = _integers(array[name[1:]].tolist())
    return known[name]


def _integers(row: list[float]) -> _ExactRow:
    if not all(map(math.isfinite, row)):
        return None, 0
    ratios = [value.as_integer_ratio() for value in row]
    places = max((d.bit_length() - 1 for _, d in ratios), default=0)
    return [n << (places + 1 - d.bit_length()) for n, d in ratios], -places


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
    cu_seqlens: tuple[ArrayLike, ArrayLike] | None = None,
) -> Heads:
    """Check and flatten the operands of attention.

    Raises
    ------
    DomainError : shapes that do not fit together, an unsupported dtype, an unknown `causal`, or ends of
        sequences that are none.
    """
    (queries, q_fmt), (keys, k_fmt), (values, v_fmt) = as_floats(q, "q"), as_floats(k, "k"), as_floats(v, "v")
    _check_shapes(queries.shape, keys.shape, values.shape)
    batch, kv_batch = queries.shape[:-2], keys.shape[:-2]
    shape = (*batch, queries.shape[-2], keys.shape[-2])
    return Heads(
        _flat(queries),
        _flat(keys),
        _flat(values),
        visibility(shape, causal, mask, cu_seqlens),
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
