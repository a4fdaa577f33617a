"""A-priori rounding-error bounds of attention's forward pass, element by element.

Each bound is a function of the operands, the formats and the habits of the kernel, and is rigorous, not
first order: as in `softmax.py` the logarithms of all factors (1 + delta) are added and turned into a
relative error by expm1 once. A weight exp(s_j) that a kernel computes is off by a factor exp(theta_j), and
what is common to a row cancels between numerator and denominator, so that

    out - exact = sum_j p_j (exp(theta_j) - 1) (v_j - exact) / sum_j p_j exp(theta_j).

The derivation, and what each term covers, stands in docs/explanation/attention-bounds.md. Sources: T. Dao
et al., FlashAttention, arXiv:2205.14135; T. Dao, FlashAttention-2, arXiv:2307.08691; J. Shah et al.,
FlashAttention-3, arXiv:2407.08608; P. Blanchard, D. J. Higham & N. J. Higham, doi:10.1093/imanum/draa038.

Bounds are evaluated in binary64 and inflated by more than that evaluation errs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic, exponent
from softcert.conformance.bounds.attention_facts import Bool, Float, Operands, Tile, weighted_growth

_SLACK = 1.0 + 2.0**-30
_LOG_2 = math.log(2.0)
#: Steps in a row on one argument: each acts on what the ones before made of it.
_STEPS = 24


@dataclass(frozen=True)
class ForwardBounds:
    """Absolute bounds of |computed - exact|, 0 where a query sees no key, NaN where no bound is known.

    Attributes
    ----------
    out, out_size : (H, L, Dv), the bound, and sum_j p_j |v_j|, which no |out| exceeds.
    lse : (H, L).
    exact_out, exact_lse : the exact values to about binary64, 0 and -inf where a query sees no key.
    """

    out: Float
    lse: Float
    out_size: Float
    exact_out: Float
    exact_lse: Float

    @property
    def out_vacuous(self) -> Bool:
        """Where the bound of out would accept 0, whatever the weights: (H, L, Dv)."""
        return vacuous(self.out, self.out_size)

    @property
    def lse_vacuous(self) -> Bool:
        """Where the bound of lse would accept a sum of exponentials that is off by a factor of 2: (H, L)."""
        return vacuous(self.lse, np.full_like(self.lse, _LOG_2))


def vacuous(bound: Float, size: Float) -> Bool:
    """Where a bound says nothing: it is no number, infinite, or at least the size of what is summed.

    A sum of n terms whose n u reaches 1 ends there too. Where nothing is summed, size 0, a finite bound
    is never vacuous: the exact result is 0.
    """
    return np.asarray(~np.isfinite(bound) | (~(bound < size) & (size > 0.0)))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what becomes infinite or NaN is vacuous
def attention_bounds(operands: Operands, a: AttentionArithmetic) -> ForwardBounds:
    """Bounds of out and lse of every query, against the exact attention of the operands."""
    heads, length = operands.q.shape[:2]
    shape = (heads, length, operands.v.shape[-1])
    out, size, exact = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    lse, exact_lse = np.zeros((heads, length)), np.full((heads, length), -np.inf)
    for head in range(heads):
        values = operands.values(head)
        powers = np.concatenate([values, np.abs(values), values * values], axis=1)
        for tile in operands.tiles(head):
            row = _Row.of(tile, operands, a, powers)
            at = head, tile.rows
            out[at], lse[at] = row.out_bound(a), row.lse_bound(a)[:, 0]
            size[at], exact[at], exact_lse[at] = row.size, row.out, row.lse[:, 0]
    return ForwardBounds(out, lse, size, exact, exact_lse)


def score_exponent(a: AttentionArithmetic, features: int) -> float:
    """Error of one score relative to |scale| sum_c |q_c k_c|.

    The sum of the products, each rounded once more where it is not exact; scale and root of it, and q and k
    multiplied by that root: five roundings, the most that any placing of the scale or a change of base
    costs; the addition of a bias; where scaled inputs are stored narrower, one rounding of q and one of k.
    """
    return (a.sum_length(features) + 1) * a.u_sum + 6.0 * a.u + 2.0 * a.u_scaled


def score_noise(tile: Tile, a: AttentionArithmetic, features: int) -> Float:
    """Absolute error of each score as its product gives it, (n, count)."""
    noise: Float = tile.sizes * (math.expm1(score_exponent(a, features)) * math.exp(_STEPS * a.u))
    return noise


def score_underflow(tile: Tile, a: AttentionArithmetic, features: int) -> Float:
    """Absolute error of a score by underflow, (n, 1): of scaled q and k, of products, of scores stored."""
    inputs = 2.0 * (a.tiny(a.compute) + a.tiny(a.scaled)) * tile.mass
    scores = (4.0 + 2.0 * a.lazy) * (a.tiny(a.scores) + a.tiny(a.compute))
    return np.asarray(inputs + features * a.sum_underflow + scores)


def stored_scores(a: AttentionArithmetic) -> float:
    """Relative error of scores stored narrower: raw, scaled, with a bias, and the scale itself."""
    return math.expm1(4.0 * a.u_scores)


def lse_exponent(a: AttentionArithmetic) -> tuple[float, float]:
    """Error of one lse made from its maximum and sum: relative to |maximum| and |lse|, and to log(sum).

    The maximum is scaled and changes its base (4), the whole is added, changes its base back and is
    stored (4); the logarithm errs by its ulps and two more roundings.
    """
    u = max(a.u, exponent(a.lse))
    return math.expm1(4.0 * u), math.expm1(a.exp_exponent + 2.0 * a.u)


def sum_exponent(terms: Float, most: int, a: AttentionArithmetic) -> Float:
    """Exponent of a sum of so many terms that are not 0, of `most` in all, in any order.

    A matrix unit errs by a group at a time, and the terms may lie in as many groups.
    """
    whole: Float = np.minimum(a.group * np.asarray(terms, dtype=np.float64), a.sum_length(most)) * a.u_sum
    return whole


def weight_exponent(
    tile: Tile, shifted: Float, weights: Float, top: Float, features: int, a: AttentionArithmetic
) -> tuple[Float, Float]:
    """Largest |theta_j| of each weight, (n, count), and the most rescales of one weight, (n, 1).

    Parameters
    ----------
    shifted : scores minus the largest, -inf where hidden. weights : exp(shifted). top : largest score.
    features : D.
    """
    count = np.log(np.maximum(tile.number, 1))
    per_score, constant = _argument(a, count)
    # a gap counts with |s_j| <= |top| + gap_j; the roundings of differences telescope to the gap
    per_gap = per_score + 5.0 * a.u
    theta = score_noise(tile, a, features)
    theta -= per_gap * shifted
    if tile.bias is not None:
        theta += (5.0 * a.u + stored_scores(a)) * math.exp(_STEPS * a.u) * tile.bias
    theta += per_score * np.abs(top) + constant + score_underflow(tile, a, features)
    tile.clear_hidden(theta)
    return _with_rescales(tile, shifted, weights, theta, a)


def _argument(a: AttentionArithmetic, log_count: Float) -> tuple[float, Float]:
    """Errors of exp's argument: relative to |s_j|, and absolute, (n, 1)."""
    # the running maximum is multiplied apart; without fused multiply-add so is the score
    offsets = a.u * (1.0 if a.fused else 2.0)
    lse_whole, lse_log = lse_exponent(a)
    per_score = offsets + stored_scores(a) + 4.0 * lse_whole * a.merges
    own = 11.0 * a.u * a.lazy + a.exp_exponent
    parts = 2.0 * (lse_whole + lse_log) * (log_count + a.lazy) + 5.0 * a.u * log_count + a.exp_exponent
    later = math.exp(_STEPS * a.u)
    return per_score * later, (own + a.merges * parts) * later


def _with_rescales(
    tile: Tile, shifted: Float, weights: Float, theta: Float, a: AttentionArithmetic
) -> tuple[Float, Float]:
    """Add what rescaling costs each weight: one exponential and one product a rise of the maximum."""
    blocks = np.maximum(np.ceil(tile.number / a.block) - 1.0, 0.0)
    each = a.exp_exponent + a.u_sum
    if not a.contiguous:
        theta += each * blocks
        return tile.clear_hidden(theta), blocks
    from softcert.conformance.bounds.attention_rises import add_rises

    return theta, add_rises(shifted, theta, weights, each, blocks)


def _shift(grown: Float, out: Float, size: Float, total: Float, tile: Tile) -> tuple[Float, Float]:
    """sum_j y_j |v_j - out| and sum_j (p_j + y_j) |v_j| at most, (n, Dv), from y [v, |v|, v^2].

    By Cauchy and Schwarz the first is at most sqrt(sum y) sqrt(sum y (v - out)^2), by the triangle
    inequality sum y |v| + |out| sum y. The one keeps an offset of v out of it, the other is finite where
    squares are not.
    """
    signed, absolute, squares = np.split(grown, 3, axis=1)
    centred = squares - 2.0 * out * signed + out * out * total
    cancelled = (tile.count + 8) * 2.0**-52 * (squares + out * out * total)
    spread = np.sqrt(total) * np.sqrt(np.maximum(centred, 0.0) + cancelled)
    return np.fmin(spread, absolute + np.abs(out) * total), size + absolute


@dataclass(frozen=True)
class _Row:
    """Sums over the keys that some queries see, each (n, 1) or (n, Dv).

    Attributes
    ----------
    tile : the queries.
    top : magnitude of the largest score.
    log_sum : log of the sum of exp(score - largest score).
    lse, out : exact to about binary64.
    size : sum_j p_j |v_j|.
    mean : log(sum_j p_j exp(theta_j)) at most, of either sign.
    shift : |sum_j p~_j v_j - out| at most, p~ the normalized weights that the kernel works with.
    held : sum_j p~_j |v_j| at most.
    plain : sum of |v_j|.
    furthest : the largest theta_j.
    rises : most rescales that one weight of the row meets.
    sums : exponent of a sum over the row, the products of its rescales included.
    """

    tile: Tile
    top: Float
    log_sum: Float
    lse: Float
    out: Float
    size: Float
    mean: Float
    shift: Float
    held: Float
    plain: Float
    furthest: Float
    rises: Float
    sums: Float

    @classmethod
    def of(cls, tile: Tile, operands: Operands, a: AttentionArithmetic, powers: Float) -> _Row:
        """Facts of a tile; `powers` is [v, |v|, v^2], (S, 3 Dv)."""
        powers, width = powers[: tile.count], powers.shape[1] // 3
        top = tile.scores.max(axis=-1, keepdims=True, initial=-np.inf)
        top = np.where(tile.number > 0, top, 0.0)
        shifted = np.subtract(tile.scores, top, out=tile.scores)
        weights = np.exp(shifted)
        total = np.where(tile.number > 0, weights.sum(axis=-1, keepdims=True), 1.0)
        log_sum = np.log(total)
        theta, most = weight_exponent(tile, shifted, weights, top, operands.q.shape[-1], a)
        excess = weighted_growth(weights, shifted, theta) / total
        plain = (weights @ powers[:, : 2 * width]) / total
        out, size = plain[:, :width], plain[:, width:]
        grown = excess.sum(axis=-1, keepdims=True)
        mean = np.log1p(grown)
        spread, held = _shift(excess @ powers, out, size, grown, tile)
        scatter = np.exp(mean)
        return cls(
            tile=tile,
            top=np.abs(top),
            log_sum=log_sum,
            lse=np.where(tile.number > 0, top + log_sum, -np.inf),
            out=out,
            size=size,
            mean=mean,
            shift=spread * scatter,
            held=held * scatter,
            plain=tile.total(powers[:, width : 2 * width]),
            furthest=theta.max(axis=-1, keepdims=True, initial=0.0),
            rises=most,
            sums=sum_exponent(tile.number, operands.k.shape[1], a) + most * a.u_sum,
        )

    def out_bound(self, a: AttentionArithmetic) -> Float:
        """Bound of out, (n, Dv)."""
        # per weight: its normalizing, its storing, its product; the sums of products
        own = self.sums + 4.0 * (1 + a.merges) * a.u + a.u_sum + exponent(a.weights)
        # common: the sum of weights, and a reciprocal and product
        common = self.sums + 3.0 * a.u + self._lost(a)
        whole = np.exp(common + self._through_lse(a) if a.through_lse else common)
        under = self.plain * (a.exp_underflow + a.cast_underflow)
        under = under + (3.0 * self.tile.number + self.rises + 4.0) * a.sum_underflow
        under = under * np.exp(own + self.rises * a.exp_exponent + self.mean)
        before = whole * (self.shift + self.held * np.expm1(own) + under)
        before = before + (whole - 1.0) * np.abs(self.out)
        u_out = a.result.unit_roundoff
        bound = before + u_out * (np.abs(self.out) + before) + a.tiny(a.result) + 4.0 * a.tiny(a.compute)
        return self._finished(bound)

    def _through_lse(self, a: AttentionArithmetic) -> Float:
        """Exponent that weights exp(score - lse), which no sum of theirs divides, have in common, (n, 1).

        The roundings of lse: of its maximum and of itself, twice each where the base changes, and of the
        logarithm. And exponentials that are not those of the sum: both err, and so do both arguments, by
        6 u of the gap, whose mean under any weights that theta allows is at most log n + max theta. One key
        alone is its own lse, to the bit. Kernels that rescale lazily divide by their sum.
        """
        value = self.top + self.log_sum + self.mean + self.sums
        rounded = 2.0 * max(a.u, exponent(a.lse)) * (self.top + value)
        _, logarithm = lse_exponent(a)
        rounded = rounded + logarithm * self.log_sum
        gaps = np.log(np.maximum(self.tile.number, 1)) + self.furthest
        common = (rounded + 2.0 * a.exp_exponent + 6.0 * a.u * gaps) * math.exp(_STEPS * a.u)
        return np.where(self.tile.number > 1, common, 0.0)

    def lse_bound(self, a: AttentionArithmetic) -> Float:
        """Bound of lse, (n, 1)."""
        whole, logarithm = lse_exponent(a)
        error = self.mean + self.sums + self._lost(a)
        value = self.top + self.log_sum + error
        error = error + logarithm * (self.log_sum + a.lazy + error)
        error = error + whole * (self.top + a.lazy + value + error)
        return self._finished(error * (1.0 + _STEPS * a.u) + a.tiny(a.lse) + 4.0 * a.tiny(a.compute))

    def _lost(self, a: AttentionArithmetic) -> Float:
        """What underflow takes from or adds to the sum of weights, relatively."""
        return np.asarray(self.tile.number * a.exp_underflow * np.exp(-self.log_sum))

    def _finished(self, bound: Float) -> Float:
        slack = _SLACK * np.exp(4.0 * self.tile.evaluation)
        whole = np.where(self.tile.number > 0, bound * slack, 0.0)
        return np.where(self.tile.broken, np.nan, whole)


__all__ = ["ForwardBounds", "attention_bounds", "vacuous"]
