"""Both oracles and the fast path on one question: they must agree, or one of them is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from softcert.reference.boltzmann import heat_capacity, log_partition_function, mean_energy
from softcert.reference.cross_entropy import cross_entropy, cross_entropy_vjp
from softcert.reference.decimals import outward_bounds
from softcert.reference.differentiated import differentiated_softmax
from softcert.reference.enclosure import Enclosure
from softcert.reference.entmax import entmax, entmax_vjp
from softcert.reference.errors import DomainError, OracleDisagreement
from softcert.reference.gradients import (
    exact_sum,
    logsumexp_hessian,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from softcert.reference.hierarchical import (
    hierarchical_log_softmax,
    hierarchical_log_softmax_vjp,
    hierarchical_softmax,
)
from softcert.reference.interval import Interval
from softcert.reference.softmax import log_softmax, logsumexp, softmax
from softcert.reference.sparsemax import sparsemax, sparsemax_vjp

#: Every op of the reference that two oracles compute, by name, but those of attention.
OPS: Mapping[str, Callable[..., Enclosure]] = MappingProxyType(
    {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": logsumexp,
        "softmax_vjp": softmax_vjp,
        "softmax_jvp": softmax_jvp,
        "sparsemax": sparsemax,
        "sparsemax_vjp": sparsemax_vjp,
        "entmax": entmax,
        "entmax_vjp": entmax_vjp,
        "softmax_jacobian": softmax_jacobian,
        "logsumexp_hessian": logsumexp_hessian,
        "exact_sum": exact_sum,
        "cross_entropy": cross_entropy,
        "cross_entropy_vjp": cross_entropy_vjp,
        "hierarchical_softmax": hierarchical_softmax,
        "hierarchical_log_softmax": hierarchical_log_softmax,
        "hierarchical_log_softmax_vjp": hierarchical_log_softmax_vjp,
        "differentiated_softmax": differentiated_softmax,
        "log_partition_function": log_partition_function,
        "mean_energy": mean_energy,
        "heat_capacity": heat_capacity,
    }
)

#: Those that the fast path computes.
_FAST = frozenset({"softmax", "log_softmax", "logsumexp", "softmax_vjp", "softmax_jvp"})


def cross_check(op_name: str, *operands: Any, **params: Any) -> Enclosure:
    """Compute an op by both oracles, and by the fast path where it has one, and return Arb's enclosure.

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
    methods = ("mpmath", "arb", "fast") if op_name in _FAST else ("mpmath", "arb")
    results = {method: op(*operands, **params, method=method) for method in methods}
    require_overlap(op_name, results)
    return results["arb"]


def require_overlap(what: str, results: Mapping[str, Enclosure]) -> None:
    """Make sure that enclosures of one thing have a number in common, element by element.

    Parameters
    ----------
    results : by method.

    Raises
    ------
    OracleDisagreement : two that have none.
    """
    for (first, ours), (second, theirs) in combinations(results.items(), 2):
        agree = ours.overlaps(theirs)
        if not agree.all():
            place = int(np.flatnonzero(~agree)[0])
            where = tuple(int(i) for i in np.unravel_index(place, agree.shape))
            raise OracleDisagreement(
                f"{what} at {where}: {first} {_text(ours, place)} and {second} {_text(theirs, place)} do not "
                "overlap"
            )


def _text(enclosure: Enclosure, place: int) -> str:
    value = enclosure.known(int(enclosure.cells_of_elements[place]))
    if isinstance(value, Interval):
        return "[{}, {}]".format(*outward_bounds(value, 40))
    return str(value)
