"""The backward pass of attention, of small sizes, as enclosures of the exact values.

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
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.attention import AttentionOracle, attention_oracle
from softcert.reference.attention_operands import Heads, fractions_of, heads_of, widest
from softcert.reference.attention_scores import NOTHING, ExpSum, Score, beside, collected
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.interval import ZERO, Interval
from softcert.reference.operands import Floats, as_floats
from softcert.reference.softmax import first_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

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
    method: str = "auto",
) -> tuple[Enclosure, Enclosure, Enclosure]:
    """Cotangents of q, k and v from that of out, scores rematerialized from the lse given.

    Parameters
    ----------
    q, k, v, scale, causal, mask, method : as `attention`.
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
    heads = heads_of(q, k, v, scale, causal, mask)
    length, width = heads.q.shape[1], heads.v.shape[-1]
    named = {"out": (out, (length, width)), "lse": (lse, (length,)), "dout": (dout, (length, width))}
    given, formats = {}, [heads.fmt]
    for name, (array, last) in named.items():
        values, fmt = as_floats(array, name)
        if values.shape != (*heads.batch, *last):
            raise DomainError(f"{name} has shape {values.shape}, and attention's is {(*heads.batch, *last)}")
        given[name] = values.reshape(len(heads.q), *last)
        formats.append(fmt)
    backward = _Backward(heads, given["out"], given["lse"], given["dout"])
    return backward.evaluate(source, first_precision(widest(formats)))


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
    """Checked operands of the backward pass, heads flattened."""

    heads: Heads
    out: Floats
    lse: Floats
    dout: Floats

    def evaluate(self, source: AttentionOracle, prec: int) -> tuple[Enclosure, Enclosure, Enclosure]:
        """Enclosures of dq, dk and dv."""
        heads, sharing = self.heads, self.heads.sharing
        pairs = [self._weights(h) for h in range(len(heads.q))]
        cells = Cells()
        maker = _Maker(cells, heads, source, prec)
        dq, dk, dv = (np.empty(a.shape, dtype=np.int64) for a in (heads.q, heads.k, heads.v))
        for h, i, c in np.ndindex(dq.shape):
            keys = heads.k[h // sharing]
            dq[h, i, c] = maker.scaled(
                w.times(float(keys[j, c]), sloped=True) for j, w in pairs[h][i].items()
            )
        for g, j, c in np.ndindex(dk.shape):
            seen = _seen_by(pairs, range(g * sharing, (g + 1) * sharing), j)
            dk[g, j, c] = maker.scaled(w.times(float(heads.q[h, i, c]), sloped=True) for h, i, w in seen)
        for g, j, c in np.ndindex(dv.shape):
            seen = _seen_by(pairs, range(g * sharing, (g + 1) * sharing), j)
            dv[g, j, c] = maker.plain(w.times(float(self.dout[h, i, c]), sloped=False) for h, i, w in seen)
        axes = ((dq, heads.batch), (dk, heads.kv_batch), (dv, heads.kv_batch))
        whole = [Enclosure(cells, index.reshape(*batch, *index.shape[1:])) for index, batch in axes]
        return whole[0], whole[1], whole[2]

    def _weights(self, h: int) -> list[dict[int, _Weight]]:
        """For each query of a head its pairs with the keys that it sees."""
        values = [fractions_of(row) for row in self.heads.v[h // self.heads.sharing].tolist()]
        rows = []
        for i, scores in enumerate(self.heads.scores(h)):
            lse = float(self.lse[h, i])
            shift = Score(Fraction(0), Fraction(lse)) if math.isfinite(lse) else None
            cotangent = fractions_of(self.dout[h, i].tolist())
            mean = _dot(cotangent, fractions_of(self.out[h, i].tolist()))
            row = {}
            for j, score in scores.items():
                slope = _dot(cotangent, values[j])
                row[j] = _Weight(
                    None if score is None or shift is None else score.minus(shift),
                    None if slope is None or mean is None else slope - mean,
                )
            rows.append(row)
        return rows


def _seen_by(
    pairs: list[list[dict[int, _Weight]]], heads: Iterable[int], key: int
) -> list[tuple[int, int, _Weight]]:
    """Every (head, query, pair) of some heads that sees one key."""
    return [(h, i, row[key]) for h in heads for i, row in enumerate(pairs[h]) if key in row]


def _dot(a: list[Fraction] | None, b: list[Fraction] | None) -> Fraction | None:
    if a is None or b is None:
        return None
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


@dataclass(frozen=True)
class _Maker:
    """Makes a cell of a sum of exponentials."""

    cells: Cells
    heads: Heads
    source: AttentionOracle
    prec: int

    def scaled(self, terms: Iterable[Term]) -> int:
        """Cell of the sum times the scale."""
        factor, radicand = self.heads.scale
        known = [None if term is None else (term[0], term[1] * factor) for term in terms]
        return self._cell(known, rooted=radicand > 1)

    def plain(self, terms: Iterable[Term]) -> int:
        """Cell of the sum."""
        return self._cell(list(terms), rooted=False)

    def _cell(self, terms: list[Term], *, rooted: bool) -> int:
        known = [term for term in terms if term is not None]
        if len(known) < len(terms):
            return self.cells.add_exact(math.nan)
        total = collected(known, self.heads.scale.radicand, rooted=rooted)
        if not total.terms:
            return self.cells.add_exact(ZERO)
        # exp(0) = 1: that part is rational, and a rounding may depend on which side of it the rest lies
        exact = sum((c for t, c in total.terms if t == NOTHING and not rooted), Fraction(0))
        rest = [(t, c) for t, c in total.terms if rooted or t != NOTHING]
        if not rest:
            return self.cells.add_exact(exact)
        open_part = ExpSum(rest, total.radicand, rooted)
        return self.cells.add_block(partial(_evaluate_sum, self.source, exact, open_part), self.prec)


def _evaluate_sum(source: AttentionOracle, exact: Fraction, rest: ExpSum, prec: int) -> list[Interval]:
    return [beside(exact, source.exp_sum(rest, prec), prec + 8)]
