"""Hypothesis strategies of seedlings: small arrays element by element, large ones by family and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from softcert.backends.types import Array, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import FAMILIES, Scale, make_row, output_near
from softcert.conformance.inputs.losses import fits, loss_operands
from softcert.conformance.inputs.trees import tree_operands
from softcert.conformance.inputs.variants import variants
from softcert.conformance.spec import LOSS_OPS, PRODUCT_OPS, TREE_OPS, Seedling

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

#: Lengths around powers of two and the block sizes that kernels use.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 257)
SPREADS = (1.0, 0.001, 0.1, 3.0, 10.0, 40.0)

_WIDTHS: dict[str, int] = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 32}


def specials(dtype: str) -> list[float]:
    """Points of a format where implementations err: zeros, subnormals, extremes, thresholds of exp."""
    scale = Scale.of(dtype)
    thresholds = [0.5 * scale.tiny_gap, scale.tiny_gap, scale.tiny_gap - np.log(2.0) * scale.precision]
    points = [0.0, -0.0, 1.0, scale.smallest, 2.0 ** (1 - scale.precision), 10.0, *thresholds, 88.5, 120.0]
    points += [scale.largest / 2, scale.largest]
    signed = [s * p for p in points for s in (1.0, -1.0)]
    return [float(as_dtype(dtype).type(p)) for p in signed if abs(p) <= scale.largest]


def logits(dtype: str) -> SearchStrategy[float]:
    """Finite logits of `dtype`, its special points over-weighted."""
    width = _WIDTHS[dtype]
    anything = st.floats(
        min_value=-Scale.of(dtype).largest,
        max_value=Scale.of(dtype).largest,
        allow_nan=False,
        allow_infinity=False,
        width=width,  # type: ignore[arg-type]  # a literal 16, 32 or 64 by the table above
    )
    moderate = st.floats(min_value=-32.0, max_value=32.0, width=16)
    return st.one_of(moderate, moderate, st.sampled_from(specials(dtype)), anything)


@st.composite
def _small(draw: DrawFn, dtype: str, element: Callable[[str], SearchStrategy[float]], most: int) -> Array:
    n = draw(st.integers(1, most))
    batch = draw(st.sampled_from((1, 1, 1, 2, 3)))
    values = draw(st.lists(element(dtype), min_size=n * batch, max_size=n * batch))
    return _shaped(values, batch, n, dtype)


def _shaped(values: Sequence[float], batch: int, n: int, dtype: str) -> Array:
    flat = np.asarray(values, dtype=np.float64)
    largest = Scale.of(dtype).largest
    array = np.clip(flat, -largest, largest).astype(as_dtype(dtype))
    return array if batch == 1 else array.reshape(batch, n)


@st.composite
def _large(draw: DrawFn, dtype: str, families: Sequence[str], lengths: Sequence[int]) -> tuple[Array, str]:
    family = draw(st.sampled_from(families))
    n = draw(st.sampled_from(lengths))
    spread = draw(st.sampled_from(SPREADS))
    seed = draw(st.integers(0, 2**16))
    return make_row(family, n, seed, spread, dtype), family


def _logits(
    draw: DrawFn, dtype: str, families: Sequence[str], lengths: Sequence[int], most: int
) -> tuple[Array, str]:
    """Rows of logits, of a family or drawn one by one, and the family's name."""
    if draw(st.booleans()):
        return draw(_large(dtype, families, lengths))
    return draw(_small(dtype, logits, most)), "drawn"


def seedlings(
    context: Context,
    families: Sequence[str] = tuple(FAMILIES),
    lengths: Sequence[int] = LENGTHS,
    most: int = 8,
) -> SearchStrategy[Seedling]:
    """Seedlings of the context's op and dtype, small ones and families mixed."""
    if context.op in PRODUCT_OPS:
        return _derivative_seedlings(context, lengths, most)
    if context.op in TREE_OPS:
        return _tree_seedlings(context, families, lengths, most)
    if context.op in LOSS_OPS:
        return _loss_seedlings(context, families, lengths, most)
    return _forward_seedlings(context, families, lengths, most)


@st.composite
def _forward_seedlings(
    draw: DrawFn, context: Context, families: Sequence[str], lengths: Sequence[int], most: int
) -> Seedling:
    beta = draw(_betas()) if context.beta and context.op == "softmax" else 1.0
    x, family = _logits(draw, context.dtype, families, lengths, most)
    if not product_is_ordinary(x, beta, context.dtype):
        beta = 1.0
    options = draw(_options(context)) if product_is_ordinary(x, 2.0, context.dtype) else {}
    return Seedling((x,), beta=beta, family=family, options=options)


def product_is_ordinary(x: Array, beta: float, dtype: str) -> bool:
    """Whether beta x neither overflows nor turns a mask into +inf.

    Multiplying before the subtraction is a correct way to compute.
    """
    logits = x.astype(np.float64)
    masked = np.isinf(logits)
    if beta < 0 and masked.any():
        return False
    finite = np.where(masked, 0.0, logits)
    return bool((np.abs(finite) <= Scale.of(dtype).largest / max(abs(beta), 1.0)).all())


def _betas() -> SearchStrategy[float]:
    return st.sampled_from((1.0, 1.0, 2.0, 0.5, 0.1, 1.7, 10.0, -1.0, -0.7))


def _options(context: Context) -> SearchStrategy[Mapping[str, float]]:
    """Options of the context's op, the usual ones as often as all others."""
    usual, *others = variants(context)
    return st.one_of(st.just(usual), st.sampled_from(others)) if others else st.just(usual)


@st.composite
def _loss_seedlings(
    draw: DrawFn, context: Context, families: Sequence[str], lengths: Sequence[int], most: int
) -> Seedling:
    x, family = _logits(draw, context.dtype, families, lengths, most)
    options = draw(_options(context))
    if not fits(x, options, context.dtype):
        options = {}
    operands = loss_operands(context.op, x, draw(st.integers(0, 2**16)), options)
    return Seedling(operands, family=family, options=options)


@st.composite
def _tree_seedlings(
    draw: DrawFn, context: Context, families: Sequence[str], lengths: Sequence[int], most: int
) -> Seedling:
    s, family = _logits(draw, context.dtype, families, lengths, most)
    return Seedling(tree_operands(context.op, s, draw(st.integers(0, 2**16))), family=family)


def cotangents(dtype: str) -> SearchStrategy[float]:
    """Tangents and cotangents: a quarter of the largest float at most, so that no exact step overflows."""
    limit = Scale.of(dtype).largest / 4

    def bounded(value: float) -> float:
        return max(-limit, min(limit, value))

    return logits(dtype).map(bounded)


@st.composite
def _derivative_seedlings(draw: DrawFn, context: Context, lengths: Sequence[int], most: int) -> Seedling:
    dtype, options = context.dtype, draw(_options(context))
    if draw(st.booleans()):
        x, family = draw(_large(dtype, ("normal", "ties", "one-hot", "equal", "increasing"), lengths))
        tangent, _ = draw(_large(dtype, ("normal", "ties", "one-hot", "equal", "near-ties"), (x.shape[-1],)))
        return Seedling((output_near(context.op, x), tangent), family=family, options=draw(_options(context)))
    x = draw(_small(dtype, lambda _dtype: st.floats(-20.0, 20.0, width=16), most))
    values = draw(st.lists(cotangents(dtype), min_size=x.size, max_size=x.size))
    tangent = np.asarray(values, dtype=np.float64).reshape(x.shape).astype(as_dtype(dtype))
    return Seedling((output_near(context.op, x), tangent), family="drawn", options=options)
