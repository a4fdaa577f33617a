"""A-priori rounding-error bounds of attention's backward pass, element by element.

The kernel is that of T. Dao et al., FlashAttention, arXiv:2205.14135, algorithm 4: weights made anew from
the lse, D_i = sum_c dout_ic out_ic from the *stored* out. What it computes are functions of that out and
lse, and so there are two exact quantities to be measured against:

- `attention_vjp` of the very out and lse the kernel was given (`forward=None`): their errors do not enter;
- the gradient of attention in q, k and v (`forward` the bounds of the pass that made them): the error of
  lse enters every weight, that of out every D. It also covers programs that keep the weights of the
  forward pass and take D as the sum of weights times dP.

The derivation stands in docs/explanation/attention-bounds.md. Bounds are rigorous and evaluated as in
`attention_forward.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic, exponent
from softcert.conformance.bounds.attention_facts import Bool, Float, Operands, Tile, weighted_growth
from softcert.conformance.bounds.attention_forward import (
    ForwardBounds,
    score_noise,
    score_underflow,
    stored_scores,
    sum_exponent,
    vacuous,
)
from softcert.conformance.model import RequestError

_SLACK = 1.0 + 2.0**-30
#: The smallest positive number of binary64.
_SMALLEST = 2.0**-1074
#: Steps in a row on one argument or one product.
_STEPS = 24


@dataclass(frozen=True)
class BackwardBounds:
    """Absolute bounds of |computed - exact|, 0 where nothing is seen, NaN where no bound is known.

    Attributes
    ----------
    dq : (H, L, D). dk : (G, S, D). dv : (G, S, Dv).
    dq_size, dk_size, dv_size : of the same shapes, the sums of the magnitudes of what is summed, dP and D
        apart: what the results would be at most if nothing cancelled.
    """

    dq: Float
    dk: Float
    dv: Float
    dq_size: Float
    dk_size: Float
    dv_size: Float

    @property
    def vacuous(self) -> tuple[Bool, Bool, Bool]:
        """Where the bounds of dq, dk and dv would accept a result that is off by all that is summed."""
        pairs = (self.dq, self.dq_size), (self.dk, self.dk_size), (self.dv, self.dv_size)
        dq, dk, dv = (vacuous(bound, size) for bound, size in pairs)
        return dq, dk, dv


@dataclass(frozen=True)
class Cotangents:
    """What the backward pass is given besides the operands: out and dout (H, L, Dv), lse (H, L)."""

    out: Float
    lse: Float
    dout: Float


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what becomes infinite or NaN is vacuous
def attention_backward_bounds(
    operands: Operands, given: Cotangents, a: AttentionArithmetic, forward: ForwardBounds | None = None
) -> BackwardBounds:
    """Bounds of dq, dk and dv.

    Parameters
    ----------
    given : the out and lse that the kernel gets, or with `forward` the exact ones, to about binary64.
    forward : bounds of the pass that computed the kernel's out and lse. None measures against the
        vjp of the out and lse given.

    Raises
    ------
    RequestError : out, lse or dout of another shape than attention's.
    """
    shape = (*operands.q.shape[:2], operands.v.shape[-1])
    if given.out.shape != shape or given.dout.shape != shape or given.lse.shape != shape[:2]:
        raise RequestError(f"out and dout have to be of shape {shape}, and lse of {shape[:2]}")
    dq, dk, dv = (_Sums.zeros(array.shape) for array in (operands.q, operands.k, operands.v))
    # one kernel sums over all heads that share a key in one go, another adds up their parts
    viewers = np.stack([operands.viewers(h) for h in range(len(operands.q))])
    viewers = viewers.reshape(len(operands.k), operands.sharing, -1).sum(axis=1)
    for head in range(len(operands.q)):
        group = head // operands.sharing
        keys, values = (_Sums.zeros(array.shape[1:]) for array in (operands.k, operands.v))
        backward = _Head(operands, given, a, forward, head, viewers[group])
        for tile in operands.tiles(head):
            backward.add(tile, dq.part((head, tile.rows)), keys, values)
        stores = _stores(backward.viewers, backward.most, a)[:, None] * a.tiny(a.inputs)
        keys.error[...] += stores
        values.error[...] += stores
        if operands.sharing > 1:  # each head's part may be stored before they are added
            keys, values = keys.stored(a), values.stored(a)
        dk.part(group).add(keys)
        dv.part(group).add(values)
    heads = (operands.sharing + 1) * a.u_sum if operands.sharing > 1 else 0.0
    results = dq.finished(a, 0.0), dk.finished(a, heads), dv.finished(a, heads)
    return BackwardBounds(*results, dq.size, dk.size, dv.size)


@dataclass(frozen=True)
class _Sums:
    """A gradient: its error so far, its value at least in magnitude, the size of what is summed."""

    error: Float
    value: Float
    size: Float

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> _Sums:
        """Nothing summed yet."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def part(self, at: int | tuple[int, slice]) -> _Sums:
        """Views of a part."""
        return _Sums(self.error[at], self.value[at], self.size[at])

    def add(self, other: _Sums) -> None:
        """Add to each in place."""
        self.error[...] += other.error
        self.value[...] += other.value
        self.size[...] += other.size

    def stored(self, a: AttentionArithmetic) -> _Sums:
        """After a rounding to the format of the inputs; a key that nothing sees stays exactly 0."""
        lost = a.tiny(a.inputs) + 4.0 * a.tiny(a.compute)
        error = self.error + a.inputs.unit_roundoff * (np.abs(self.value) + self.error) + lost
        return _Sums(np.where(self.size > 0.0, error, self.error), np.abs(self.value), self.size)

    def finished(self, a: AttentionArithmetic, sums: float) -> Float:
        """Bound after the additions of heads that share a key, and the last rounding."""
        error = self.error + math.expm1(sums) * (np.abs(self.value) + self.error)
        return _Sums(error, self.value, self.size).stored(a).error * _SLACK


class _Head:
    """One head's backward pass."""

    def __init__(
        self,
        operands: Operands,
        given: Cotangents,
        a: AttentionArithmetic,
        forward: ForwardBounds | None,
        head: int,
        viewers: Float,
    ) -> None:
        self.a, self.forward, self.head = a, forward, head
        self.scale, self.features = operands.factor, operands.q.shape[-1]
        self.q, self.out, self.lse, self.dout = (
            x[head] for x in (operands.q, given.out, given.lse, given.dout)
        )
        # of q and k where they are held scaled, and so multiplied by dS
        self.lost = 4.0 * (a.tiny(a.scaled) + a.tiny(a.compute)) / min(1.0, abs(self.scale) or 1.0)
        self.keys, self.values = operands.keys(head), operands.values(head)
        self.count = len(self.keys)
        self.viewers, self.most = viewers, operands.sharing * len(self.q)

    def add(self, tile: Tile, dq: _Sums, dk: _Sums, dv: _Sums) -> None:
        """Add one tile of queries to the sums over queries, and store its own sums over keys."""
        a = self.a
        pairs = _Pairs.of(self, tile)
        rows = _gradient_exponent(tile.number, self.count, a)
        columns = _gradient_exponent(self.viewers[: tile.count], self.most, a)
        keys, q, dout = self.keys[: tile.count], self.of_tile(self.q, tile), self.of_tile(self.dout, tile)
        by_row, by_column = pairs.slope_sums(a, rows, self.scale), pairs.slope_sums(a, columns, self.scale)
        weights = pairs.weight_sums(a, columns)
        lost = abs(self.scale) * self.lost * pairs.spread
        rounded = _stores(tile.number, self.count, a) * a.tiny(a.inputs)
        dq.error[...] = by_row @ np.abs(keys) + lost.sum(axis=1, keepdims=True) + rounded
        dq.value[...] = self.scale * (pairs.slope @ keys)
        dq.size[...] = abs(self.scale) * (pairs.spread @ np.abs(keys))
        seen = slice(0, tile.count)
        dk.error[seen] += by_column.T @ np.abs(q) + lost.sum(axis=0)[:, None]
        dk.value[seen] += self.scale * (pairs.slope.T @ q)
        dk.size[seen] += abs(self.scale) * (pairs.spread.T @ np.abs(q))
        dv.error[seen] += weights.T @ np.abs(dout)
        dv.value[seen] += pairs.weight.T @ dout
        dv.size[seen] += pairs.weight.T @ np.abs(dout)
        sloped: Bool = np.asarray(dout.any(axis=1, keepdims=True))
        _raise_from_zero(dq.size, tile.seen, keys != 0.0, sloped)
        _raise_from_zero(dk.size[seen], _across(tile.seen), sloped & (q != 0.0))
        _raise_from_zero(dv.size[seen], _across(tile.seen), dout != 0.0)
        self._spoil(tile, dq, dk, dv)

    def of_tile(self, array: Float, tile: Tile) -> Float:
        """A tile's rows of what is given by query, 0 where they are no numbers or see nothing."""
        return np.where(tile.number > 0, np.nan_to_num(array[tile.rows], posinf=0.0, neginf=0.0), 0.0)

    def _spoil(self, tile: Tile, dq: _Sums, dk: _Sums, dv: _Sums) -> None:
        """No bound is known where a query meets what is no number, nor for the keys that it sees."""
        given = (self.out[tile.rows], self.dout[tile.rows], self.lse[tile.rows, None])
        finite = np.logical_and.reduce([np.isfinite(x).all(axis=-1, keepdims=True) for x in given])
        broken = tile.broken | (~finite & (tile.number > 0))
        if broken.any():
            seen = np.ones((len(broken), tile.count), dtype=bool) if tile.seen is None else tile.seen
            dq.error[broken[:, 0]] = np.nan
            for sums in (dk, dv):
                sums.error[: tile.count][(seen & broken).any(axis=0)] = np.nan


def _gradient_exponent(terms: Float, most: int, a: AttentionArithmetic) -> Float:
    """Exponent of a gradient's sum over so many terms, of `most` in all, and of what surrounds it.

    That is scaled inputs, changes of base, the scale and a product; and the roundings of partial sums that
    are stored in the format of the inputs.
    """
    around = 8.0 * a.u + 2.0 * a.u_scaled + a.u_sum
    return sum_exponent(terms, most, a) + around + _stores(terms, most, a) * exponent(a.inputs)


def _stores(terms: Float, most: int, a: AttentionArithmetic) -> Float:
    """How often a partial sum is stored before the end."""
    blocks = 1.0 if a.gradient_block is None else np.ceil(most / a.gradient_block)
    return np.minimum(np.asarray(terms, dtype=np.float64), blocks - 1.0)


def _across(seen: Bool | None) -> Bool | None:
    """Which queries see a key, from which keys a query sees."""
    return None if seen is None else seen.T


def _raise_from_zero(
    size: Float,
    seen: Bool | None,
    factors: Bool,
    rows: Bool | None = None,
) -> None:
    """Make sizes positive, in place, that binary64 is too narrow for: of sums with a term that is not 0.

    Where every term is 0 so is every sum of them, to the bit; where one is as small as e^-800 the result may
    be rounded to the smallest number that there is.

    Parameters
    ----------
    size : (n, m). seen : (n, k), None where everything is.
    factors : (k, m), whether what is summed is not 0. rows : (n, 1), whether what it is multiplied by is not.
    """
    if size.all():
        return
    if seen is None:
        touched = np.broadcast_to(factors.any(axis=0), size.shape)
    else:
        touched = seen.astype(np.float64) @ factors.astype(np.float64) > 0.0
    if rows is not None:
        touched = touched & rows
    np.maximum(size, np.where(touched, _SMALLEST, 0.0), out=size)


@dataclass(frozen=True)
class _Pairs:
    """What each query and key contribute, (n, count) each, 0 where hidden.

    Attributes
    ----------
    weight : P. weight_error : |computed P - P| at most, before it is stored.
    slope : dS = P (dP - D). slope_error : the same of dS.
    spread : P (sum_c |dout_c v_c| + sum_c |dout_c out_c|).
    shown : 1 where seen, else 0; None where everything is.
    """

    weight: Float
    weight_error: Float
    slope: Float
    slope_error: Float
    spread: Float
    shown: Float | None

    @classmethod
    def of(cls, head: _Head, tile: Tile) -> _Pairs:
        """Pairs of a tile's queries with its keys."""
        a, at = head.a, tile.rows
        lse = head.lse[at, None]
        lse = np.where(np.isfinite(lse) & (tile.number > 0), lse, 0.0)
        distance = np.subtract(tile.scores, lse - 4.0 * tile.evaluation, out=tile.scores)
        weight = np.exp(distance)  # so no less than the exact one
        theta = _weight_exponent(head, tile, distance, lse)
        sloped = theta + (2.0 * a.u + (exponent(a.weights) if a.unfused else 0.0))
        tile.clear_hidden(sloped)
        dout, values = head.of_tile(head.dout, tile), head.values[: tile.count]
        slope, error, size = _slopes(head, tile, dout, values)
        grown = weighted_growth(weight, distance, sloped)
        slope_error = grown * np.abs(slope)
        slope_error += (weight + grown) * error
        lost = a.exp_underflow + (a.cast_underflow if a.unfused else 0.0)
        slope_error += lost * (np.abs(slope) + error) + a.exp_underflow
        slope *= weight
        return cls(
            weight=weight,
            weight_error=weighted_growth(weight, distance, theta) + a.exp_underflow,
            slope=slope,
            slope_error=tile.clear_hidden(slope_error),
            spread=weight * size,
            shown=None if tile.seen is None else tile.seen.astype(np.float64),
        )

    def slope_sums(self, a: AttentionArithmetic, sums: Float, scale: float) -> Float:
        """Error of scale dS as a sum over keys or queries takes it in, relative to what it multiplies.

        dS may be scaled before it is stored or after: its underflow counts as the greater of the two.
        """
        whole = np.exp(sums + exponent(a.weights))
        under = (a.cast_underflow + 2.0 * a.sum_underflow) * max(1.0, abs(scale))
        error = abs(scale) * (whole * self.slope_error + (whole - 1.0) * np.abs(self.slope)) + whole * under
        return error if self.shown is None else error * self.shown

    def weight_sums(self, a: AttentionArithmetic, sums: Float) -> Float:
        """The same of P."""
        whole = np.exp(sums + exponent(a.weights))
        under = a.cast_underflow + 2.0 * a.sum_underflow
        error = whole * (self.weight_error + under) + (whole - 1.0) * self.weight
        return error if self.shown is None else error * self.shown


def _weight_exponent(head: _Head, tile: Tile, distance: Float, lse: Float) -> Float:
    """Largest |theta| of P made anew as exp(score - lse), with |score| <= |lse| + |score - lse|.

    Relative to the score: the constant of a change of base, and its product (4); to lse: its change of
    base (2); to their difference: its rounding. Five more of the difference cover weights kept from the
    forward pass.
    """
    a = head.a
    stored = stored_scores(a)
    later = math.exp(_STEPS * a.u)
    theta = score_noise(tile, a, head.features)
    theta += ((10.0 * a.u + stored) * later) * np.abs(distance)
    if tile.bias is not None:
        theta += (5.0 * a.u + stored) * later * tile.bias
    constant = (6.0 * a.u + stored) * np.abs(lse) * later + a.exp_exponent
    constant = constant + score_underflow(tile, a, head.features)
    if head.forward is not None:
        constant = constant + head.forward.lse[head.head, tile.rows, None] + 4.0 * a.u
    theta += constant
    return tile.clear_hidden(theta)


def _slopes(head: _Head, tile: Tile, dout: Float, values: Float) -> tuple[Float, Float, Float]:
    """dP - D, its error, and the sum of the magnitudes of what it is made of, (n, count) each."""
    a, at = head.a, tile.rows
    out = head.of_tile(head.out, tile)
    product = math.expm1((a.sum_length(values.shape[1]) + 1) * a.u_sum + a.u)
    slope = dout @ values.T
    size = np.abs(dout) @ np.abs(values).T
    error = product * size + 4.0 * (a.tiny(a.scores) + a.tiny(a.compute))
    if a.u_scores:
        error += math.expm1(2.0 * a.u_scores) * np.abs(slope)
    slope -= (dout * out).sum(axis=-1, keepdims=True)
    size += (np.abs(dout) * np.abs(out)).sum(axis=-1, keepdims=True)
    held, wrong = np.abs(out), np.zeros_like(out)
    if head.forward is not None:
        wrong = head.forward.out[head.head, at]
        held = np.maximum(head.forward.out_size[head.head, at], held) + wrong
        product += math.expm1(2.0 * a.u_scores)
    error += (np.abs(dout) * (wrong + product * held)).sum(axis=-1, keepdims=True)
    return slope, error, size


__all__ = ["BackwardBounds", "Cotangents", "attention_backward_bounds"]
