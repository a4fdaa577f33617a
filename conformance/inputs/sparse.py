"""Inputs of sparsemax and entmax: supports of every size, and logits at the threshold itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from softcert.backends.ops import order_of
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row, to_dtype
from softcert.conformance.inputs.growing import operands_from
from softcert.conformance.inputs.variants import variants
from softcert.conformance.spec import Seedling

#: Widths of the rows: from all logits with a share to the largest alone.
_SPREADS = (0.003, 0.05, 0.3, 1.0, 4.0)


def supports(context: Context) -> Iterator[Seedling]:
    """Rows whose support has any size, of every order."""
    for options in variants(context):
        for spread in _SPREADS:
            for n in (2, 7, 40, *((200,) if context.thorough >= 1 else ())):
                x = make_row("normal", n, n, spread, context.dtype)
                yield Seedling(operands_from(context, x, n), family="supports", options=options)
        yield from at_thresholds(context, options)


def at_thresholds(context: Context, options: Mapping[str, float]) -> Iterator[Seedling]:
    """Rows of whose logits some lie on the threshold, or an ulp from it."""
    step = order_of(context.op, options) - 1.0
    for count in (1, 2, 4, 16):
        # `count` equal logits share alike, and the others are deeper by their base.
        depth = count**-step / step
        for others in (1, 3):
            row = np.concatenate([np.zeros(count), np.full(others, -depth)])
            x = to_dtype(row, context.dtype)
            deeper, higher = (np.nextafter(x, x.dtype.type(way)) for way in (-9, 0))
            for moved in (x, np.where(x < 0, deeper, x), higher):
                yield Seedling(operands_from(context, moved, count), family="thresholds", options=options)
