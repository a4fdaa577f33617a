"""Both oracles and the fast path on one question about attention: they must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from softcert.reference.attention import attention, attention_lse, attention_merge
from softcert.reference.attention_gradients import attention_vjp
from softcert.reference.cross_check import require_overlap
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError

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
    """Compute an op of attention by both oracles and the fast path, and return Arb's enclosures.

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
    results = {
        method: _all_of(op(*operands, **params, method=method)) for method in ("mpmath", "arb", "fast")
    }
    for k, name in enumerate(names):
        require_overlap(f"{name} of {op_name}", {method: found[k] for method, found in results.items()})
    return results["arb"]


def _all_of(results: Enclosure | tuple[Enclosure, ...]) -> tuple[Enclosure, ...]:
    return results if isinstance(results, tuple) else (results,)
