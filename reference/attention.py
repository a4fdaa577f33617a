"""Attention: outputs and log-sum-exps as enclosures of the exact values.

Scaled dot-product attention as in A. Vaswani et al., Attention Is All You Need, arXiv:1706.03762 (2017),
eq. 1, and the merge of partial results as in T. Dao et al., FlashAttention, arXiv:2205.14135 (2022),
section 3.1. With the exact scores s_j of the keys that one query sees,

    out = sum_j exp(s_j) v_j / sum_j exp(s_j),    lse = log sum_j exp(s_j).

The largest score's own mean is taken out of each sum, out = V_top / n_top + tail, so that a tail of any
smallness decides a rounding by its sign. `attention_scores.py` says which results are algebraic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from softcert.reference import attention_arb, attention_fast, attention_mp
from softcert.reference.attention_operands import Heads, fractions_of, heads_of, widest
from softcert.reference.attention_scores import (
    Column,
    ExpSum,
    Score,
    ScoreRow,
    above_score,
    beside,
    column_of,
    group_scores,
)
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.interval import ZERO, Interval
from softcert.reference.operands import Floats, as_floats
from softcert.reference.softmax import first_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: One query's values by column; None where a value that it sees is not finite.
Columns = Sequence[list[Fraction] | None]


class AttentionOracle(Protocol):
    """What encloses the transcendental parts of attention; `prec` is in bits."""

    def tails(self, row: ScoreRow, columns: list[Column], prec: int) -> list[Interval]:
        """Each column's output minus its mean."""

    def shares(self, row: ScoreRow, prec: int) -> list[Interval]:
        """Softmax at each distinct score."""

    def logsumexp(self, row: ScoreRow, prec: int) -> Interval:
        """lse of one query."""

    def exp_sum(self, total: ExpSum, prec: int) -> Interval:
        """A sum of exponentials."""


_METHODS: MappingProxyType[str, AttentionOracle] = MappingProxyType(
    {"auto": attention_arb, "mpmath": attention_mp, "arb": attention_arb, "fast": attention_arb}
)

#: Pairs of a query and a key from which "auto" is the fast path: Arb would take seconds.
_MANY_PAIRS = 1 << 14


def attention_oracle(method: str) -> AttentionOracle:
    """Return the oracle of a method; Arb, the faster one, is also behind "auto" and "fast".

    Raises
    ------
    ValueError : no such method.
    """
    found = _METHODS.get(str(method))
    if found is None:
        raise ValueError(f"method={method!r} is not one of {', '.join(_METHODS)}")
    return found


def by_double_words(method: str, heads: Heads) -> bool:
    """Whether a method takes these operands by the fast path."""
    many = len(heads.q) * heads.q.shape[1] * heads.k.shape[1] >= _MANY_PAIRS
    return (method == "fast" or (method == "auto" and many)) and attention_fast.takes(heads)


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    scale: float | Fraction | None = None,
    causal: bool | str = False,
    mask: ArrayLike | None = None,
    cu_seqlens: tuple[ArrayLike, ArrayLike] | None = None,
    method: str = "auto",
) -> Enclosure:
    """softmax(scale q k^T + mask) v of the numbers given, as exact reals.

    Parameters
    ----------
    q, k, v : (..., L, D), (..., S, D), (..., S, Dv), any supported dtypes, float8 included. Axis -3 of q,
        where there is one, may be a multiple of that of k and v: head h of q then sees head h // (Hq / Hk).
    scale : the exact real of the number given; None is the real number 1/sqrt(D).
    causal : True or "bottom-right" shows key j to query i iff j <= i + S - L; "top-left" iff j <= i.
    mask : broadcast to (..., L, S) of q's batch axes; of booleans, True where a key is seen, or of numbers
        that are added to the scores, -inf where a key is hidden.
    cu_seqlens : (of q, of k), each 0 and then where each of the sequences packed along axis -2 ends, as
        FlashAttention's functions of variable length take them. A query sees keys of its own sequence alone,
        and `causal` counts within it.
    method : "arb", "mpmath", "fast" (double words, with Arb for what they leave open), or "auto": "fast" for
        2**14 pairs of a query and a key or more, else "arb".

    Returns
    -------
    Enclosure (..., L, Dv). 0 where a query sees no key. What hidden keys hold, NaN and infinities included,
    does not matter. A NaN or an infinity in the query or in a key that it sees, or a mask that is NaN or
    +inf there, gives NaN in the query's whole output; one in a value that it sees, in that column of it.

    Raises
    ------
    DomainError : shapes that do not fit together, an unsupported dtype, a scale that is no finite number, or
        ends of sequences that are none.
    ValueError : no such method.
    """
    return attention_lse(
        q, k, v, scale=scale, causal=causal, mask=mask, cu_seqlens=cu_seqlens, method=method
    )[0]


def attention_lse(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    scale: float | Fraction | None = None,
    causal: bool | str = False,
    mask: ArrayLike | None = None,
    cu_seqlens: tuple[ArrayLike, ArrayLike] | None = None,
    method: str = "auto",
) -> tuple[Enclosure, Enclosure]:
    """`attention` together with the natural logarithm of each query's sum of exponentials.

    Parameters
    ----------
    As `attention`.

    Returns
    -------
    (out, lse) : Enclosures (..., L, Dv) and (..., L). lse is -inf where a query sees no key, the score itself
        where it sees one, and NaN where the query, a key that it sees or the mask there is not finite.

    Raises
    ------
    DomainError, ValueError : as `attention`.
    """
    heads = heads_of(q, k, v, scale, causal, mask, cu_seqlens)
    source, prec = attention_oracle(method), first_precision(heads.fmt)

    def query(cells: Cells, head: int, place: int) -> tuple[list[int], int]:
        scores = heads.scores(head, place)
        values = heads.v[head // heads.sharing][list(scores)]
        columns = [fractions_of(column) for column in values.T.tolist()]
        return attend(cells, list(scores.values()), columns, heads.scale.radicand, source, prec)

    if by_double_words(method, heads):
        return attention_fast.forward(heads, query)
    cells = Cells()
    count, length = heads.q.shape[:2]
    out = np.empty((count, length, heads.v.shape[-1]), dtype=np.int64)
    lse = np.empty((count, length), dtype=np.int64)
    for h, i in np.ndindex(count, length):
        out[h, i], lse[h, i] = query(cells, h, i)
    shape = (*heads.batch, length)
    return Enclosure(cells, out.reshape(*shape, out.shape[-1])), Enclosure(cells, lse.reshape(shape))


def attend(
    cells: Cells,
    scores: Sequence[Score | None],
    columns: Columns,
    radicand: int,
    source: AttentionOracle,
    prec: int,
) -> tuple[list[int], int]:
    """Cells of one query's output and of its lse.

    Parameters
    ----------
    scores : of the keys that the query sees; None where one is no number.
    """
    if not scores:
        return [cells.add_exact(ZERO)] * len(columns), cells.add_exact(-math.inf)
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        undefined = cells.add_exact(math.nan)
        return [undefined] * len(columns), undefined
    row = group_scores(known, radicand)
    return _output(cells, row, columns, source, prec), _lse(cells, row, source, prec)


def _output(cells: Cells, row: ScoreRow, columns: Columns, source: AttentionOracle, prec: int) -> list[int]:
    """Cells of one query's output: NaN, a rational, or one of a block that is refined together."""
    index, open_places, block = [-1] * len(columns), [], []
    for place, values in enumerate(columns):
        column = None if values is None else column_of(row, values)
        if column is None:
            index[place] = cells.add_exact(math.nan)
        elif not any(column.deltas):
            index[place] = cells.add_exact(column.mean)
        else:
            open_places.append(place)
            block.append(column)
    if block:
        start = cells.add_block(partial(_evaluate_output, source, row, block), prec)
        for k, place in enumerate(open_places):
            index[place] = start + k
    return index


def _evaluate_output(
    source: AttentionOracle, row: ScoreRow, columns: list[Column], prec: int
) -> list[Interval]:
    tails = source.tails(row, columns, prec)
    return [beside(column.mean, tail, prec + 8) for column, tail in zip(columns, tails, strict=True)]


def _lse(cells: Cells, row: ScoreRow, source: AttentionOracle, prec: int) -> int:
    """Cell of one query's lse; a single key's score is exact unless the scale is irrational."""
    if len(row.member) == 1 and not row.scores[0].root:
        return cells.add_exact(row.scores[0].rational)
    return cells.add_block(partial(_evaluate_lse, source, row), prec)


def _evaluate_lse(source: AttentionOracle, row: ScoreRow, prec: int) -> list[Interval]:
    # a single key whose score is rational was dealt with, and an irrational one is no boundary
    return [above_score(source.logsumexp(row, prec), row.scores[row.top])]


def attention_merge(
    out_a: ArrayLike, lse_a: ArrayLike, out_b: ArrayLike, lse_b: ArrayLike, method: str = "auto"
) -> tuple[Enclosure, Enclosure]:
    """Attention over the union of two disjoint key sets, from the results on each (split-KV decoding).

    out = (exp(lse_a) out_a + exp(lse_b) out_b) / (exp(lse_a) + exp(lse_b)) and
    lse = log(exp(lse_a) + exp(lse_b)) of the numbers given, as exact reals.

    Parameters
    ----------
    out_a, out_b : (..., L, Dv). lse_a, lse_b : (..., L). method : as `attention`.

    Returns
    -------
    (out, lse). An lse of -inf is an empty key set, whose out does not matter; two of them give 0 and -inf.
    An lse that is NaN or +inf gives NaN in the query's whole result, a NaN or an infinity in an out that
    counts in its column.

    Raises
    ------
    DomainError : shapes that do not fit together or an unsupported dtype. ValueError : no such method.
    """
    source = attention_oracle(method)
    named = {"out_a": out_a, "lse_a": lse_a, "out_b": out_b, "lse_b": lse_b}
    parts = {name: as_floats(array, name) for name, array in named.items()}
    arrays = {name: array for name, (array, _) in parts.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes["out_a"] != shapes["out_b"] or {shapes["lse_a"], shapes["lse_b"]} != {shapes["out_a"][:-1]}:
        raise DomainError(f"the parts to merge have shapes that do not fit together: {shapes}")
    prec = first_precision(widest([fmt for _, fmt in parts.values()]))
    shape = shapes["out_a"]

    def query(cells: Cells, row: int) -> tuple[list[int], int]:
        at = np.unravel_index(row, shape[:-1])
        sides = [(float(arrays[f"lse_{side}"][at]), arrays[f"out_{side}"][at]) for side in "ab"]
        seen = [(weight, values) for weight, values in sides if weight != -math.inf]
        return attend(cells, *_as_keys(seen, shape[-1]), 1, source, prec)

    count = math.prod(shape[:-1])
    if math.prod(shape) and (method == "fast" or (method == "auto" and count >= _MANY_PAIRS)):
        return attention_fast.merged(list(arrays.values()), query)
    cells = Cells()
    out, lse = np.empty((count, shape[-1]), dtype=np.int64), np.empty(count, dtype=np.int64)
    for row in range(count):
        out[row], lse[row] = query(cells, row)
    return Enclosure(cells, out.reshape(shape)), Enclosure(cells, lse.reshape(shape[:-1]))


def _as_keys(sides: list[tuple[float, Floats]], columns: int) -> tuple[list[Score | None], Columns]:
    """Partial results as keys: their lse is the score, their output the value."""
    scores = [Score(Fraction(0), Fraction(lse)) if math.isfinite(lse) else None for lse, _ in sides]
    return scores, [fractions_of([float(values[c]) for _, values in sides]) for c in range(columns)]
