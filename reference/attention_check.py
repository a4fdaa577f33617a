"""Both oracles on one question about attention: they must agree, or one of them is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from softcert.reference.attention import attention, attention_lse, attention_merge
from softcert.reference.attention_gradients import attention_vjp
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError, OracleDisagreement

#: Every op of attention by name, with the names of its results.
ATTENTION_OPS: Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]] = MappingProxyType(
    {
        "attention": (attention, ("out",)),
        "attention_lse": (attention_lse, ("out", "lse")),
        "attention_merge": (attention_merge, ("out", "lse")),
        "attention_vjp": (attention_vjp, ("dq", "dk", "dv")),
    }
)


def cross_check_attention(op_name: str, *operands: Any, **params: Any) -> tuple[Enclosure, ...]:
    """Compute an op of attention by both oracles and return its enclosures.

    Parameters
    ----------
    op_name : a key of `ATTENTION_OPS`.
    operands, params : what the op takes, `method` excepted.

    Returns
    -------
    Tuple of the op's results, of one where it has one.

    Raises
    ------
    DomainError : no such op. OracleDisagreement : two enclosures that have no number in common.
    """
    if op_name not in ATTENTION_OPS:
        raise DomainError(f"op {op_name!r} is not one of {', '.join(ATTENTION_OPS)}")
    op, names = ATTENTION_OPS[op_name]
    ours = _all_of(op(*operands, **params, method="mpmath"))
    theirs = _all_of(op(*operands, **params, method="arb"))
    for name, first, second in zip(names, ours, theirs, strict=True):
        agree = first.overlaps(second)
        if not agree.all():
            where = tuple(int(i) for i in np.argwhere(~agree)[0])
            raise OracleDisagreement(
                f"{name} of {op_name} at {where}: mpmath [{_bounds(first, where)}] and Arb "
                f"[{_bounds(second, where)}] do not overlap"
            )
    return theirs


def _all_of(results: Enclosure | tuple[Enclosure, ...]) -> tuple[Enclosure, ...]:
    return results if isinstance(results, tuple) else (results,)


def _bounds(enclosure: Enclosure, where: tuple[int, ...]) -> str:
    low, high = enclosure[where].bounds_decimal(40)
    return f"{low}, {high}"
