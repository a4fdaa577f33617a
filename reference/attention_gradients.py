"""The backward pass of attention, as enclosures of the exact values.

T. Dao et al., FlashAttention, arXiv:2205.14135 (2022), algorithm 4 and appendix B.2: the probabilities are
made anew from the scores and the lse of the forward pass. With s_ij the exact score where query i sees key j,

    P_ij = exp(s_ij - lse_i),        D_i = sum_c dout_ic out_ic,
    dP_ij = sum_c dout_ic v_jc,      dS_ij = P_ij (dP_ij - D_i),
    dv_jc = sum_i P_ij dout_ic,      dq_ic = scale sum_j dS_ij k_jc,      dk_jc = scale sum_i dS_ij q_ic.

All three are functions of the out and lse *given*, as exact reals: they are the derivatives of attention
only as far as those are its results. Given lse, each is a sum of exponentials of algebraic numbers with
rational coefficients, times the scale, so `attention_scores.py` decides which of them are exact.
`attention_derivation.py` proves the formulas from the definition of attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference import attention_fast
from softcert.reference.attention import AttentionOracle, attention_oracle, by_double_words
from softcert.reference.attention_operands import BackwardOperands, fractions_of, heads_of, widest
from softcert.reference.attention_scores import NOTHING, ExpSum, Score, beside, collected
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.interval import ZERO, Interval
from softcert.reference.operands import Floats, as_floats
from softcert.reference.softmax import first_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: A summand coefficient exp(exponent); None where it is no number.
Term = tuple[Score, Fraction] | None


def attention_vjp(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    out: ArrayLike,
    lse: ArrayLike,
    dout: ArrayLike,
    *,
    scale: float | Fraction | None = None,
    causal: bool | str = False,
    mask: ArrayLike | None = None,
    cu_seqlens: tuple[ArrayLike, ArrayLike] | None = None,
    method: str = "auto",
) -> tuple[Enclosure, Enclosure, Enclosure]:
    """Cotangents of q, k and v from that of out, scores rematerialized from the lse given.

    Parameters
    ----------
    q, k, v, scale, causal, mask, cu_seqlens, method : as `attention`.
    out, lse : (..., L, Dv) and (..., L), what the forward pass gave.
    dout : (..., L, Dv), the cotangent of out.

    Returns
    -------
    (dq, dk, dv) : Enclosures of the shapes of q, k and v; dk and dv are summed over the heads of q that
    share one of k and v. Exactly 0 where nothing is seen, or all coefficients cancel. Where query i sees
    key j, a NaN or an infinity in q_i, k_j, lse_i or the mask there gives NaN in all of dq_i, dk_j and dv_j;
    one in v_j, out_i or dout_i in all of dq_i and dk_j; one in dout_ic also in dv_jc. What hidden keys, and
    queries that see none, hold does not matter.

    Raises
    ------
    DomainError : as `attention`, or out, lse or dout of another shape. ValueError : no such method.
    """
    source = attention_oracle(method)
    heads = heads_of(q, k, v, scale, causal, mask, cu_seqlens)
    length, width = heads.q.shape[1], heads.v.shape[-1]
    named = {"out": (out, (length, width)), "lse": (lse, (length,)), "dout": (dout, (length, width))}
    given, formats = {}, [heads.fmt]
    for name, (array, last) in named.items():
        values, fmt = as_floats(array, name)
        if values.shape != (*heads.batch, *last):
            raise DomainError(f"{name} has shape {values.shape}, and attention's is {(*heads.batch, *last)}")
        given[name] = values.reshape(len(heads.q), *last)
        formats.append(fmt)
    operands = BackwardOperands(heads, given["out"], given["lse"], given["dout"])
    exact = _Backward(operands, source, first_precision(widest(formats)))
    if by_double_words(method, heads):
        return attention_fast.backward(operands, exact.rows)
    cells = Cells()
    results = []
    for row, like, batch in zip(exact.rows, (heads.q, heads.k, heads.v), exact.batches, strict=True):
        index = np.empty(like.shape, dtype=np.int64)
        for at in np.ndindex(like.shape[:2]):
            index[at] = row(cells, *at)
        results.append(Enclosure(cells, index.reshape(*batch, *index.shape[1:])))
    return results[0], results[1], results[2]


@dataclass(frozen=True)
class _Weight:
    """One pair of a query and a key that it sees.

    Attributes
    ----------
    exponent : s - lse, whose exp is P; None where it is no number.
    slope : dP - D; None where it is no number.
    """

    exponent: Score | None
    slope: Fraction | None

    def times(self, factor: float, *, sloped: bool) -> Term:
        """P factor, or dS factor."""
        inner = self.slope if sloped else Fraction(1)
        if self.exponent is None or inner is None or not math.isfinite(factor):
            return None
        return self.exponent, inner * Fraction(factor)


@dataclass(frozen=True)
class _Backward:
    """The exact backward pass, row by row of its results.

    Parameters
    ----------
    given : checked operands, heads flattened.
    source, prec : the oracle, and the precision in bits at which it starts.
    """

    given: BackwardOperands
    source: AttentionOracle
    prec: int

    @property
    def rows(self) -> tuple[attention_fast.Row, attention_fast.Row, attention_fast.Row]:
        """What makes cells of a row of dq, of dk and of dv, given its head and its place."""
        return self._dq, self._dk, self._dv

    @property
    def batches(self) -> tuple[tuple[int, ...], ...]:
        """Leading axes of dq, dk and dv."""
        heads = self.given.heads
        return heads.batch, heads.kv_batch, heads.kv_batch

    def _dq(self, cells: Cells, head: int, query: int) -> list[int]:
        heads = self.given.heads
        keys, bias = heads.seen.of_query(head, query)
        weights = [self._weight(head, query, *pair) for pair in _listed(keys, bias)]
        seen = heads.k[head // heads.sharing, keys]
        return [self._scaled(cells, _times(weights, column, sloped=True)) for column in seen.T.tolist()]

    def _dk(self, cells: Cells, group: int, key: int) -> list[int]:
        weights, places = self._seen_by(group, key)
        columns = self.given.heads.q[places].T.tolist()
        return [self._scaled(cells, _times(weights, column, sloped=True)) for column in columns]

    def _dv(self, cells: Cells, group: int, key: int) -> list[int]:
        weights, places = self._seen_by(group, key)
        columns = self.given.dout[places].T.tolist()
        return [self._cell(cells, _times(weights, c, sloped=False), rooted=False) for c in columns]

    def _seen_by(self, group: int, key: int) -> tuple[list[_Weight], tuple[list[int], list[int]]]:
        """Pairs of a key with each query that sees it, and the heads and places of those."""
        sharing = self.given.heads.sharing
        weights, places = [], ([], [])  # type: tuple[list[_Weight], tuple[list[int], list[int]]]
        for head in range(group * sharing, (group + 1) * sharing):
            for query, bias in _listed(*self.given.heads.seen.of_key(head, key)):
                weights.append(self._weight(head, query, key, bias))
                places[0].append(head)
                places[1].append(query)
        return weights, places

    def _weight(self, head: int, query: int, key: int, bias: float) -> _Weight:
        place = head, query, key
        if place not in self._known:
            score = self.given.heads.score(head, query, key, bias)
            shift, cotangent, mean = self._of_query(head, query)
            slope = _dot(cotangent, self._values(head // self.given.heads.sharing, key))
            self._known[place] = _Weight(
                None if score is None or shift is None else score.minus(shift),
                None if slope is None or mean is None else slope - mean,
            )
        return self._known[place]

    def _of_query(self, head: int, query: int) -> tuple[Score | None, list[Fraction] | None, Fraction | None]:
        """(lse, cotangent, D) of a query, each None where it is no number."""
        place = head, query
        if place not in self._queries:
            lse = float(self.given.lse[place])
            cotangent = fractions_of(self.given.dout[place].tolist())
            self._queries[place] = (
                Score(Fraction(0), Fraction(lse)) if math.isfinite(lse) else None,
                cotangent,
                _dot(cotangent, fractions_of(self.given.out[place].tolist())),
            )
        return self._queries[place]

    def _values(self, group: int, key: int) -> list[Fraction] | None:
        place = group, key
        if place not in self._keys:
            self._keys[place] = fractions_of(self.given.heads.v[place].tolist())
        return self._keys[place]

    @cached_property
    def _known(self) -> dict[tuple[int, int, int], _Weight]:
        return {}

    @cached_property
    def _queries(
        self,
    ) -> dict[tuple[int, int], tuple[Score | None, list[Fraction] | None, Fraction | None]]:
        return {}

    @cached_property
    def _keys(self) -> dict[tuple[int, int], list[Fraction] | None]:
        return {}

    def _scaled(self, cells: Cells, terms: list[Term]) -> int:
        """Cell of the sum times the scale."""
        factor, radicand = self.given.heads.scale
        known = [None if term is None else (term[0], term[1] * factor) for term in terms]
        return self._cell(cells, known, rooted=radicand > 1)

    def _cell(self, cells: Cells, terms: list[Term], *, rooted: bool) -> int:
        known = [term for term in terms if term is not None]
        if len(known) < len(terms):
            return cells.add_exact(math.nan)
        total = collected(known, self.given.heads.scale.radicand, rooted=rooted)
        if not total.terms:
            return cells.add_exact(ZERO)
        # exp(0) = 1: that part is rational, and a rounding may depend on which side of it the rest lies
        exact = sum((c for t, c in total.terms if t == NOTHING and not rooted), Fraction(0))
        rest = [(t, c) for t, c in total.terms if rooted or t != NOTHING]
        if not rest:
            return cells.add_exact(exact)
        open_part = ExpSum(rest, total.radicand, rooted)
        return cells.add_block(partial(_evaluate_sum, self.source, exact, open_part), self.prec)


def _listed(places: NDArray[np.int64], bias: Floats) -> list[tuple[int, float]]:
    return list(zip(places.tolist(), bias.tolist(), strict=True))


def _times(weights: list[_Weight], factors: list[float], *, sloped: bool) -> list[Term]:
    return [w.times(factor, sloped=sloped) for w, factor in zip(weights, factors, strict=True)]


def _dot(a: list[Fraction] | None, b: list[Fraction] | None) -> Fraction | None:
    if a is None or b is None:
        return None
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _evaluate_sum(source: AttentionOracle, exact: Fraction, rest: ExpSum, prec: int) -> list[Interval]:
    return [beside(exact, source.exp_sum(rest, prec), prec + 8)]
