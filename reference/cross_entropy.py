"""Cross-entropy of logits with an integer target, label smoothing and z-loss, and its derivative.

Conventions, each a keyword of its source:

- `label_smoothing` s and `ignore_index`: torch.nn.functional.cross_entropy. The target distribution is 1 - s
  at the target plus s / n at each of the n classes, the target included, and n counts all classes, also one
  that `ignore_index` names (C. Szegedy et al., Rethinking the Inception architecture, arXiv:1512.00567,
  section 7). A row whose target is `ignore_index` counts for nothing.
- `z_loss` z: the auxiliary loss z log(Z)^2, log(Z) being lse (A. Chowdhery et al., PaLM: scaling language
  modeling with pathways, arXiv:2204.02311, section 5, with z = 1e-4), which Liger calls `lse_square_scale`.
  Label smoothing does not touch it.

Special values follow from the loss being -sum_j c_j log p_j + z lse^2, c_j the target distribution:

- An ignored row is the constant 0 and so is its gradient, whatever its logits or cotangent are, NaN included.
- A NaN or +inf logit, or none finite, leaves no distribution p (see `softmax`), so the row is NaN.
- A logit -inf is a class of probability 0. With c_j > 0 the loss is +inf; with c_j = 0 it adds nothing, since
  0 log(0) is 0. So without smoothing only the target counts, and with it every class does: even s = 1, where
  the target keeps the weight s / n.
- The gradient at such a place is its limit as the logit goes to -inf, cotangent times p_j (1 + 2 z lse) - c_j
  with p_j = 0, which is finite although the loss is not.
- A cotangent that is not finite makes the gradient of its row NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from softcert.reference import cross_entropy_arb, cross_entropy_mp
from softcert.reference.cells import Cells
from softcert.reference.cross_entropy_rows import LossOfRow, SlopesOfRow, slope_if_rational
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.exactness import group
from softcert.reference.interval import ZERO, Interval
from softcert.reference.operands import Floats, as_floats, as_integers, rows_along
from softcert.reference.softmax import axis_restored, exact_factor, first_precision, specials

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class LossOracle(Protocol):
    """What encloses the loss of one row and its slopes; `prec` is in bits, relative."""

    def loss_row(self, question: LossOfRow, prec: int) -> Interval:
        """The loss."""

    def slopes_row(self, question: SlopesOfRow, prec: int) -> list[Interval]:
        """Cotangent times slope at each place wanted."""


_METHODS: Mapping[str, LossOracle] = MappingProxyType(
    {
        "auto": cross_entropy_arb,
        "mpmath": cross_entropy_mp,
        "arb": cross_entropy_arb,
        "fast": cross_entropy_arb,
    }
)


@dataclass(frozen=True)
class _Options:
    """The keywords of a loss as exact reals, and its oracle."""

    smoothing: Fraction
    z_loss: Fraction
    ignore_index: int
    source: LossOracle

    def weights(self, n: int) -> tuple[Fraction, Fraction]:
        """The weight c_j of the target and of each other class, among n."""
        share = self.smoothing / n
        return 1 - self.smoothing + share, share


def cross_entropy(
    x: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    label_smoothing: float | Fraction = 0.0,
    ignore_index: int = -100,
    z_loss: float | Fraction = 0.0,
    method: str = "auto",
) -> Enclosure:
    """(1 - s) (lse - x_t) + (s / n) sum_j (lse - x_j) + z lse^2 of each row, unreduced, as exact reals.

    Parameters
    ----------
    x : logits (..., n) along `axis`, n >= 1, any supported dtype.
    target : integers of x's shape without `axis`: each the index t of a class, or `ignore_index`.
    label_smoothing : s in [0, 1], the exact real of the number given.
    ignore_index : a target whose row is not counted; its loss is exactly 0.
    z_loss : z >= 0, the exact real of the number given.
    method : "mpmath", or "arb", which "auto" and "fast" are too.

    Returns
    -------
    Enclosure of target's shape. Exactly z x^2 where a single finite logit bears all the weight; +inf where a
    logit -inf has some; NaN where a logit is NaN or +inf, or none is finite: see this module.

    Raises
    ------
    DomainError : x is no array of supported floats, has no such axis or is empty along it; targets that are
        no integers, of another shape or no class; options out of their range.
    ValueError : no such method.
    """
    options = _options(label_smoothing, ignore_index, z_loss, method)
    rows, targets, shape, prec = _operands(x, target, axis, options.ignore_index)
    cells = Cells()
    index = [
        _loss_cell(cells, row, t, options, prec)
        for row, t in zip(rows.tolist(), targets.tolist(), strict=True)
    ]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(shape[:-1]))


def cross_entropy_vjp(
    x: ArrayLike,
    target: ArrayLike,
    dloss: ArrayLike,
    *,
    axis: int = -1,
    label_smoothing: float | Fraction = 0.0,
    ignore_index: int = -100,
    z_loss: float | Fraction = 0.0,
    method: str = "auto",
) -> Enclosure:
    """dloss (p_j (1 + 2 z lse) - (1 - s) [j = t] - s / n): the gradient of `cross_entropy` by the logits.

    `derivation.py` proves the closed form from the definition, for a symbolic number of classes.

    Parameters
    ----------
    x, target, axis, label_smoothing, ignore_index, z_loss, method : as for `cross_entropy`.
    dloss : cotangent of each row's loss, of target's shape.

    Returns
    -------
    Enclosure of x's shape. Exactly 0 in ignored rows and for a cotangent 0; rational, hence exact, where all
    finite logits are equal and z = 0, or where one alone is finite; NaN in rows without distribution: see
    this module.

    Raises
    ------
    DomainError, ValueError : as `cross_entropy`, and a cotangent of another shape.
    """
    options = _options(label_smoothing, ignore_index, z_loss, method)
    rows, targets, shape, prec = _operands(x, target, axis, options.ignore_index)
    cotangents, _ = as_floats(dloss, "dloss")
    if cotangents.shape != shape[:-1]:
        raise DomainError(f"dloss has shape {cotangents.shape}, and the losses {shape[:-1]}")
    cells, index = Cells(), np.empty(rows.shape, dtype=np.int64)
    given = zip(rows.tolist(), targets.tolist(), cotangents.ravel().tolist(), strict=True)
    for i, (row, t, d) in enumerate(given):
        index[i] = _slope_cells(cells, row, t, d, options, prec)
    return Enclosure(cells, axis_restored(index, shape, axis))


def _options(
    label_smoothing: float | Fraction, ignore_index: int, z_loss: float | Fraction, method: str
) -> _Options:
    source = _METHODS.get(str(method))
    if source is None:
        raise ValueError(f"method={method!r} is not one of {', '.join(_METHODS)}")
    smoothing, factor = (
        _factor(label_smoothing, "label_smoothing"),
        _factor(z_loss, "z_loss"),
    )
    if smoothing > 1:
        raise DomainError(f"label_smoothing={label_smoothing!r} is above 1")
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise DomainError(f"ignore_index={ignore_index!r} is not an integer")
    return _Options(smoothing, factor, int(ignore_index), source)


def _factor(value: float | Fraction, name: str) -> Fraction:
    factor = exact_factor(value, name)
    if factor < 0:
        raise DomainError(f"{name}={value!r} is below 0")
    return factor


def _operands(
    x: ArrayLike, target: ArrayLike, axis: int, ignore_index: int
) -> tuple[Floats, NDArray[np.int64], tuple[int, ...], int]:
    """Rows of logits, their targets, the shape with `axis` last, and the first precision."""
    values, fmt = as_floats(x)
    rows, shape = rows_along(values, axis)
    n = shape[-1]
    if n == 0:
        raise DomainError(f"cross_entropy needs at least one class along axis {axis}, and x has none")
    targets = as_integers(target, "target")
    if targets.shape != shape[:-1]:
        raise DomainError(f"target has shape {targets.shape}, and the rows of x {shape[:-1]}")
    flat = targets.ravel()
    wrong = flat[(flat != ignore_index) & ((flat < 0) | (flat >= n))]
    if wrong.size:
        raise DomainError(
            f"target {int(wrong[0])} is neither one of {n} classes nor ignore_index={ignore_index}"
        )
    return rows, flat, shape, first_precision(fmt)


def _loss_cell(cells: Cells, row: list[float], target: int, options: _Options, prec: int) -> int:
    if target == options.ignore_index:
        return cells.add_exact(ZERO)
    special, finite = specials(row)
    if special is not None:
        return cells.add_exact(math.nan)
    own, share = options.weights(len(row))
    if (own and math.isinf(row[target])) or (share and len(finite) < len(row)):
        return cells.add_exact(math.inf)
    logits, _ = group([row[i] for i in finite], Fraction(1))
    top = Fraction(logits.values[logits.top])
    if logits.total == 1:
        return cells.add_exact(options.z_loss * top * top)
    rest = top - (own - share) * Fraction(row[target]) if own != share else top
    if share:
        total = sum((Fraction(v) * n for v, n in zip(logits.values, logits.counts, strict=True)), Fraction(0))
        rest -= share * total
    question = LossOfRow(logits, rest, options.z_loss)
    return cells.add_block(partial(_loss_entry, options.source, question), prec)


def _loss_entry(source: LossOracle, question: LossOfRow, prec: int) -> list[Interval]:
    return [source.loss_row(question, prec)]


def _slope_cells(
    cells: Cells, row: list[float], target: int, cotangent: float, options: _Options, prec: int
) -> list[int]:
    if target == options.ignore_index:
        return [cells.add_exact(ZERO)] * len(row)
    special, finite = specials(row)
    if special is not None or not math.isfinite(cotangent):
        return [cells.add_exact(math.nan)] * len(row)
    if cotangent == 0:
        return [cells.add_exact(ZERO)] * len(row)
    logits, member = group([row[i] for i in finite], Fraction(1))
    own, share = options.weights(len(row))
    value_of = dict(zip(finite, member, strict=True))
    # -1 stands for a logit -inf.
    asked = [(value_of.get(i, -1), own if i == target else share) for i in range(len(row))]
    placed: dict[tuple[int, Fraction], int] = {}
    open_ones = []
    for k, c in dict.fromkeys(asked):
        slope = -c if k < 0 else slope_if_rational(logits, c, options.z_loss)
        if slope is None:
            open_ones.append((k, c))
        else:
            placed[k, c] = cells.add_exact(Fraction(cotangent) * slope)
    if open_ones:
        question = SlopesOfRow(logits, tuple(open_ones), options.z_loss, Fraction(cotangent))
        start = cells.add_block(partial(options.source.slopes_row, question), prec)
        placed |= {pair: start + place for place, pair in enumerate(open_ones)}
    return [placed[pair] for pair in asked]
