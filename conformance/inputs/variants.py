"""Options under which an op is examined, beside the usual ones."""

from __future__ import annotations

from collections.abc import Mapping

from softcert.backends.ops import ROW_OPTIONS
from softcert.conformance.context import Context
from softcert.conformance.inputs import losses
from softcert.conformance.spec import LOSS_OPS, SPARSE_DERIVATIVE_OPS

#: Orders besides the usual one; above 2, powers of small outputs may overflow in derivatives.
_ORDERS = (1.0625, 1.25, 1.75, 2.0)
_ABOVE_TWO = (2.5, 3.0)


def variants(context: Context) -> tuple[Mapping[str, float], ...]:
    """Options of the context's op, the usual ones first; beta apart, which a subject may lack."""
    if context.op in LOSS_OPS:
        return losses.OPTIONS
    if "alpha" not in ROW_OPTIONS.get(context.op, {}):
        return ({},)
    more = () if context.op in SPARSE_DERIVATIVE_OPS else _ABOVE_TWO
    return ({}, *({"alpha": order} for order in (*_ORDERS, *more)))
