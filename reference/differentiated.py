"""The differentiated softmax: blocks of classes with disjoint slices of the features, one softmax.

W. Chen, D. Grangier and M. Auli, Strategies for training large vocabulary neural language models,
arXiv:1512.04906 (2015), on differentiated softmax. The logits are those of a dense matrix whose other blocks
are fixed at 0, so that those of a block have no derivative by the features of another. Logits and products
with derivatives are rational, hence exact; the softmax is transcendental unless all finite logits are equal
(`exactness.py`, whose proof asks of logits only that they are rational).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.attention import AttentionOracle, attention_oracle
from softcert.reference.attention_operands import widest
from softcert.reference.attention_scores import Score, ScoreRow, group_scores
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.exact_oracle import aligned
from softcert.reference.formats import FloatFormat
from softcert.reference.interval import ZERO, Interval, below
from softcert.reference.operands import Floats, as_floats
from softcert.reference.oracles import oracle
from softcert.reference.softmax import first_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: An exact number, or None where it is NaN.
_Number = Fraction | None


@dataclass(frozen=True)
class _Blocks:
    """A checked layer.

    Attributes
    ----------
    h : (rows, D). batch : leading axes of h as they were.
    weights, biases : of each block (V_k, d_k) and (V_k,).
    """

    h: Floats
    batch: tuple[int, ...]
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    fmt: FloatFormat

    @property
    def classes(self) -> list[slice]:
        """Which classes each block has."""
        return _slices([w.shape[0] for w in self.weights])

    @property
    def features(self) -> list[slice]:
        """Which features each block reads."""
        return _slices([w.shape[1] for w in self.weights])

    @property
    def size(self) -> int:
        """Number of classes of all blocks."""
        return sum(w.shape[0] for w in self.weights)


def _slices(lengths: Sequence[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(accumulate(lengths, initial=0))]


def differentiated_multiplications(weights: Sequence[ArrayLike]) -> int:
    """Products that the logits of one row take: sum_k V_k d_k, of a dense layer sum_k V_k times sum_k d_k.

    Parameters
    ----------
    weights : of each block (V_k, d_k).
    """
    return sum(math.prod(np.shape(w)) for w in weights)


def differentiated_logits(
    h: ArrayLike, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike] | None = None
) -> Enclosure:
    """z_w = W_k[w] h_k + b_w for the classes w of each block k, which reads the slice h_k of the features.

    Parameters
    ----------
    h : (..., D), any supported dtype.
    weights : of each block (V_k, d_k); the d_k sum to D, and slices follow each other in order.
    biases : of each block (V_k,); None is 0.

    Returns
    -------
    Enclosure (..., V_1 + V_2 + ...) of zero width. Where numbers are not finite, NaN or the infinity that
    products and sum of the extended reals give.

    Raises
    ------
    DomainError : shapes that do not fit together, or unsupported dtypes.
    """
    blocks = _blocks(h, weights, biases)
    cells = Cells()
    index = [[cells.add_exact(z) for z in _logits(blocks, row)] for row in range(len(blocks.h))]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(*blocks.batch, blocks.size))


def differentiated_softmax(
    h: ArrayLike,
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None = None,
    method: str = "auto",
) -> Enclosure:
    """Softmax of `differentiated_logits` over all classes.

    Parameters
    ----------
    h, weights, biases : as `differentiated_logits`. method : "arb", "mpmath" or "auto", which is "arb".

    Returns
    -------
    Enclosure (..., V_1 + V_2 + ...). A NaN or +inf logit, or none finite, gives NaN throughout; -inf among
    finite ones gives exactly 0.

    Raises
    ------
    DomainError : as `differentiated_logits`, or no class. ValueError : no such method.
    """
    oracle(method)
    source, blocks = attention_oracle(method), _blocks(h, weights, biases)
    if not blocks.size:
        raise DomainError("differentiated_softmax needs at least one class, and the blocks have none")
    cells, prec = Cells(), first_precision(blocks.fmt)
    index = [_softmax_row(cells, _logits(blocks, row), source, prec) for row in range(len(blocks.h))]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(*blocks.batch, blocks.size))


def differentiated_logits_vjp(
    h: ArrayLike, weights: Sequence[ArrayLike], dz: ArrayLike
) -> tuple[Enclosure, tuple[Enclosure, ...], tuple[Enclosure, ...]]:
    """The cotangent dz of the logits taken back to h, W and b.

    dh_k = W_k^T dz_k, dW_k = dz_k h_k^T and db_k = dz_k, the latter two summed over all rows of h. What the
    logits of one block say of the features and the weights of another is exactly 0.

    Parameters
    ----------
    h, weights : as `differentiated_logits`. dz : (..., V_1 + V_2 + ...).

    Returns
    -------
    (dh, dW, db) : Enclosures of zero width, of the shapes of h, of each block's weights and of its biases.
    NaN where something not finite enters.

    Raises
    ------
    DomainError : shapes that do not fit together, or unsupported dtypes.
    """
    blocks = _blocks(h, weights, None)
    slopes = _of_classes(blocks, dz, "dz")
    return _taken_back(blocks, [[_exact(v) for v in row] for row in slopes.tolist()])


def differentiated_softmax_vjp(
    h: ArrayLike, weights: Sequence[ArrayLike], y: ArrayLike, dy: ArrayLike
) -> tuple[Enclosure, tuple[Enclosure, ...], tuple[Enclosure, ...]]:
    """The cotangent dy of the softmax taken back to h, W and b, at the output y given.

    That of the logits is y_i (dy_i - sum_j y_j dy_j), as `softmax_vjp` has it; `differentiated_logits_vjp`
    says what follows from it.

    Parameters
    ----------
    h, weights : as `differentiated_logits`. y, dy : (..., V_1 + V_2 + ...).

    Returns
    -------
    (dh, dW, db), as `differentiated_logits_vjp`. A row of y or dy with anything not finite gives NaN in all
    that it enters.

    Raises
    ------
    DomainError : shapes that do not fit together, or unsupported dtypes.
    """
    blocks = _blocks(h, weights, None)
    outputs, slopes = _of_classes(blocks, y, "y"), _of_classes(blocks, dy, "dy")
    rows = zip(outputs.tolist(), slopes.tolist(), strict=True)
    return _taken_back(blocks, [_softmax_product(*row) for row in rows])


# --- operands ----------------------------------------------------------------------------------------


def _blocks(h: ArrayLike, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike] | None) -> _Blocks:
    """Check and flatten the operands.

    Raises
    ------
    DomainError : shapes that do not fit together, or unsupported dtypes.
    """
    (hidden, fmt), matrices = as_floats(h, "h"), [as_floats(w, "weights") for w in weights]
    zeros = [(np.zeros(w.shape[:1]), fmt) for w, fmt in matrices]
    vectors = zeros if biases is None else [as_floats(b, "biases") for b in biases]
    shapes = [w.shape for w, _ in matrices]
    if not shapes or any(len(shape) != 2 for shape in shapes):
        raise DomainError(f"weights have shapes {shapes}, and have to be one matrix or more")
    if [b.shape for b, _ in vectors] != [shape[:1] for shape in shapes]:
        raise DomainError(f"biases have shapes {[b.shape for b, _ in vectors]}, and weights {shapes}")
    if hidden.ndim == 0 or hidden.shape[-1] != sum(shape[1] for shape in shapes):
        raise DomainError(
            f"h has shape {hidden.shape}, and the weights' blocks of {shapes} read other features"
        )
    batch = hidden.shape[:-1]
    formats = [fmt, *(f for _, f in matrices), *(f for _, f in vectors)]
    flat = hidden.reshape(math.prod(batch), hidden.shape[-1])
    return _Blocks(flat, batch, tuple(w for w, _ in matrices), tuple(b for b, _ in vectors), widest(formats))


def _of_classes(blocks: _Blocks, array: ArrayLike, name: str) -> Floats:
    """A number a class, (rows, classes)."""
    values, _ = as_floats(array, name)
    if values.shape != (*blocks.batch, blocks.size):
        raise DomainError(f"{name} has shape {values.shape}, and the logits {(*blocks.batch, blocks.size)}")
    return values.reshape(len(blocks.h), blocks.size)


# --- values ------------------------------------------------------------------------------------------


def _logits(blocks: _Blocks, row: int) -> list[Fraction | float]:
    """Logits of one row: exact, or what is no number."""
    found: list[Fraction | float] = []
    for weights, biases, part in zip(blocks.weights, blocks.biases, blocks.features, strict=True):
        features = blocks.h[row, part].tolist()
        known = aligned(features) if all(map(math.isfinite, features)) else None
        for vector, bias in zip(weights.tolist(), biases.tolist(), strict=True):
            if known is None or not all(map(math.isfinite, (*vector, bias))):
                found.append(_special_logit(features, vector, bias))
                continue
            (left, e), (right, f) = known, aligned(vector)
            product = sum(a * b for a, b in zip(left, right, strict=True))
            found.append(Fraction(2) ** (e + f) * product + Fraction(bias))
    return found


def _special_logit(features: list[float], vector: list[float], bias: float) -> float:
    """NaN or an infinity: what is finite does not matter, and its product may overflow."""
    terms = [
        a * b for a, b in zip(features, vector, strict=True) if not (math.isfinite(a) and math.isfinite(b))
    ]
    return sum(terms, 0.0 if math.isfinite(bias) else bias)


def _softmax_row(
    cells: Cells, logits: list[Fraction | float], source: AttentionOracle, prec: int
) -> list[int]:
    finite = {i: z for i, z in enumerate(logits) if isinstance(z, Fraction)}
    if not finite or not all(isinstance(z, Fraction) or z == -math.inf for z in logits):
        return [cells.add_exact(math.nan)] * len(logits)
    row = group_scores([Score(Fraction(0), z) for z in finite.values()], 1)
    if len(row.scores) == 1:
        share = cells.add_exact(Fraction(1, row.counts[0]))
        places = [share] * len(finite)
    else:
        start = cells.add_block(partial(_shares, source, row), prec)
        places = [start + k for k in row.member]
    index = [cells.add_exact(ZERO)] * len(logits)
    for i, place in zip(finite, places, strict=True):
        index[i] = place
    return index


def _shares(source: AttentionOracle, row: ScoreRow, prec: int) -> list[Interval]:
    """Softmax at each distinct logit; n of the largest have less than 1/n each."""
    entries, n = source.shares(row, prec), row.counts[row.top]
    if n & (n - 1) == 0:  # only then is 1/n a number that an interval's end can be
        entries[row.top] = below(entries[row.top], 1, 1 - n.bit_length())
    return entries


# --- derivatives -------------------------------------------------------------------------------------


def _exact(value: float) -> _Number:
    return Fraction(value) if math.isfinite(value) else None


def _softmax_product(outputs: list[float], slopes: list[float]) -> list[_Number]:
    if not all(map(math.isfinite, (*outputs, *slopes))):
        return [None] * len(outputs)
    weights, tangents = list(map(Fraction, outputs)), list(map(Fraction, slopes))
    mean = sum((w * t for w, t in zip(weights, tangents, strict=True)), Fraction(0))
    return [w * (t - mean) for w, t in zip(weights, tangents, strict=True)]


def _dot(left: Sequence[_Number], right: Sequence[_Number]) -> _Number:
    if None in left or None in right:
        return None
    return sum(
        (a * b for a, b in zip(left, right, strict=True) if a is not None and b is not None), Fraction(0)
    )


def _taken_back(
    blocks: _Blocks, slopes: list[list[_Number]]
) -> tuple[Enclosure, tuple[Enclosure, ...], tuple[Enclosure, ...]]:
    """dh, dW and db of the cotangents of the logits, by rows of h."""
    by_hidden: list[list[_Number]] = [[] for _ in slopes]
    by_weights, by_biases = [], []
    for weights, classes, features in zip(blocks.weights, blocks.classes, blocks.features, strict=True):
        columns = [[_exact(v) for v in column] for column in weights.T.tolist()]
        hidden = [[_exact(v) for v in column] for column in blocks.h[:, features].T.tolist()]
        own = [row[classes] for row in slopes]
        for found, part in zip(by_hidden, own, strict=True):
            found += [_dot(column, part) for column in columns]
        of_class = [[part[k] for part in own] for k in range(len(weights))]
        by_weights.append(_enclosed([[_dot(one, h) for h in hidden] for one in of_class], weights.shape))
        ones: list[_Number] = [Fraction(1)] * len(own)
        by_biases.append(_enclosed([[_dot(one, ones)] for one in of_class], weights.shape[:1]))
    shape = (*blocks.batch, blocks.h.shape[1])
    return _enclosed(by_hidden, shape), tuple(by_weights), tuple(by_biases)


def _enclosed(rows: list[list[_Number]], shape: tuple[int, ...]) -> Enclosure:
    cells = Cells()
    index = [[cells.add_exact(math.nan if v is None else v) for v in row] for row in rows]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(shape))
