"""Both oracles on one question: they must agree, or one of them is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError, OracleDisagreement
from softcert.reference.gradients import (
    exact_sum,
    logsumexp_hessian,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from softcert.reference.softmax import log_softmax, logsumexp, softmax

#: Every op of the reference by name.
OPS: Mapping[str, Callable[..., Enclosure]] = MappingProxyType(
    {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": logsumexp,
        "softmax_vjp": softmax_vjp,
        "softmax_jvp": softmax_jvp,
        "softmax_jacobian": softmax_jacobian,
        "logsumexp_hessian": logsumexp_hessian,
        "exact_sum": exact_sum,
    }
)


def cross_check(op_name: str, *operands: Any, **params: Any) -> Enclosure:
    """Compute an op by both oracles and return its enclosure.

    Parameters
    ----------
    op_name : a key of `OPS`.
    operands, params : what the op takes, `method` excepted.

    Raises
    ------
    DomainError : no such op. OracleDisagreement : two enclosures that have no number in common.
    """
    op = OPS.get(op_name)
    if op is None:
        raise DomainError(f"op {op_name!r} is not one of {', '.join(OPS)}")
    ours, theirs = op(*operands, **params, method="mpmath"), op(*operands, **params, method="arb")
    agree = ours.overlaps(theirs)
    if not agree.all():
        where = tuple(int(i) for i in np.argwhere(~agree)[0])
        raise OracleDisagreement(
            f"{op_name} at {where}: mpmath {_text(ours, where)} and Arb {_text(theirs, where)} do not overlap"
        )
    return theirs


def _text(enclosure: Enclosure, where: tuple[int, ...]) -> str:
    low, high = enclosure[where].bounds_decimal(40)
    return f"[{low}, {high}]"
