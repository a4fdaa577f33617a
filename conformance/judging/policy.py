"""What rows with NaN and infinities must give: policy that the contract declares, not arithmetic.

Rows of finite logits, with or without -inf among them, have an exact value and are left to the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softcert.backends.contract import Contract
from softcert.backends.ops import OF_TREES, REDUCING_OPS, ROW_OPTIONS, without_axis
from softcert.backends.types import Array, Call
from softcert.conformance.bounds.hierarchical import branches_of
from softcert.conformance.spec import LOSS_OPS, PRODUCT_OPS, SIMPLEX_OPS, TREE_OPS, rows_last

Bool = NDArray[np.bool_]

ORDINARY, HAS_NAN, HAS_PLUS_INF, ALL_MINUS_INF = range(4)
#: What each kind of row is called in a message.
KIND_NAMES = ("an ordinary row", "a row with a NaN", "a row with a +inf logit", "a row of -inf only")


@dataclass(frozen=True)
class Breach:
    """One result that the policy does not allow: where, and what it should have been."""

    index: tuple[int, ...]
    expected: str
    kind: int


def row_kinds(call: Call) -> NDArray[np.int8]:
    """Kind of each row of the call, of the operands' shape without the reduced axis."""
    axis = int(call.params["axis"])
    shape = call.operands[0].shape
    kinds = np.zeros(without_axis(shape, axis), dtype=np.int8)
    if call.op in LOSS_OPS:
        return _kinds_of_losses(call, kinds)
    if call.op in TREE_OPS:
        return _kinds_of_leaves(call, kinds)
    rows = [rows_last(a, axis).astype(np.float64) for a in call.operands]
    if shape[axis] == 0 or all(np.isfinite(r).all() for r in rows):
        return kinds
    if call.op in PRODUCT_OPS:
        bad = np.logical_or.reduce([~np.isfinite(r).all(axis=-1) for r in rows])
        return np.where(bad, np.int8(HAS_NAN), kinds)
    return _by_logits(_infinities(call), kinds)


def _by_logits(logits: NDArray[np.float64], kinds: NDArray[np.int8]) -> NDArray[np.int8]:
    kinds[np.asarray((logits == -np.inf).all(axis=-1))] = ALL_MINUS_INF
    kinds[np.asarray((logits == np.inf).any(axis=-1))] = HAS_PLUS_INF
    kinds[np.asarray(np.isnan(logits).any(axis=-1))] = HAS_NAN
    return kinds


def _kinds_of_losses(call: Call, kinds: NDArray[np.int8]) -> NDArray[np.int8]:
    """An ignored row is ordinary whatever it holds: its loss is the constant 0."""
    if call.operands[0].shape[int(call.params["axis"])]:
        kinds = _by_logits(_infinities(call), kinds)
    if len(call.operands) > 2:
        kinds = np.where(np.isfinite(call.operands[2].astype(np.float64)), kinds, np.int8(HAS_NAN))
    return np.where(ignored_rows(call), np.int8(ORDINARY), kinds)


def _kinds_of_leaves(call: Call, kinds: NDArray[np.int8]) -> NDArray[np.int8]:
    """A row is special by a NaN on the path to its leaf, or a cotangent that is no number.

    An infinity has a sigma, and what is off the path does not matter.
    """
    s = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
    target, paths = call.operands[1], call.operands[-len(OF_TREES) :]
    t = branches_of(s, target[..., np.newaxis], *paths).t
    bad: Bool = np.asarray(np.isnan(t).any(axis=(-2, -1)))
    if call.op == "hierarchical_log_softmax_vjp":
        bad = bad | ~np.isfinite(call.operands[2].astype(np.float64))
    return np.where(bad, np.int8(HAS_NAN), kinds)


def ignored_rows(call: Call) -> Bool:
    """Which rows of a loss do not count, of the targets' shape; of an op that ignores none, none."""
    usual = ROW_OPTIONS.get(call.op, {}).get("ignore_index")
    if usual is None:
        return np.zeros(call.operands[1].shape, dtype=np.bool_)
    return np.asarray(call.operands[1] == int(call.params.get("ignore_index", usual)))


def _infinities(call: Call) -> NDArray[np.float64]:
    """The logits times beta where they are no numbers, else 0, the reduced axis last.

    A product that only binary64 overflows is a finite real: its sign of infinity decides nothing.
    """
    x = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        logits = float(call.params.get("beta", 1.0)) * x
    return np.where(np.isfinite(x), 0.0, logits)


def breaches(call: Call, value: Array, contract: Contract) -> list[Breach]:
    """Every result of a special row that the contract does not allow."""
    axis = int(call.params["axis"])
    kinds = row_kinds(call)
    if not kinds.any():
        return []
    logits = _infinities(call)
    answers = (value[..., np.newaxis] if call.op in REDUCING_OPS else rows_last(value, axis)).astype(
        np.float64
    )
    found: list[Breach] = []
    for place_of_row in np.argwhere(kinds != ORDINARY):
        at = tuple(int(i) for i in place_of_row)
        kind = int(kinds[at])
        allowed, expected = _allowed(call.op, kind, logits[at], answers[at], contract)
        for place in np.flatnonzero(~allowed):
            index = at
            if call.op not in REDUCING_OPS:
                position = axis % value.ndim
                index = (*index[:position], int(place), *index[position:])
            found.append(Breach(index, expected, kind))
    return found


def _allowed(
    op: str, kind: int, logits: NDArray[np.float64], answer: NDArray[np.float64], contract: Contract
) -> tuple[Bool, str]:
    nan: Bool = np.isnan(answer)
    anything = np.ones_like(nan)
    if kind == HAS_NAN:
        return (nan if contract.nan == "propagate" else anything), "NaN"
    if op in LOSS_OPS or kind == HAS_PLUS_INF:
        return (_of_losses if op in LOSS_OPS else _plus_inf)(op, logits, answer, nan, contract)
    if op == "logsumexp":
        return answer == -np.inf, "-inf"
    if contract.all_minus_inf == "any":
        return anything, "anything"
    if op == "log_softmax":
        return nan | (answer == -np.inf), "NaN or -inf"
    wanted = {"nan": nan, "zero": answer == 0.0, "uniform": np.isclose(answer, 1.0 / answer.size, rtol=1e-2)}
    return wanted[contract.all_minus_inf], {"nan": "NaN", "zero": "0", "uniform": "1/n"}[
        contract.all_minus_inf
    ]


def _of_losses(
    op: str, logits: NDArray[np.float64], answer: NDArray[np.float64], nan: Bool, contract: Contract
) -> tuple[Bool, str]:
    """No distribution, no loss: log-probabilities that are -inf make it +inf, which says it as well."""
    has_plus_inf = bool((logits == np.inf).any())
    promised = contract.plus_inf if has_plus_inf else contract.all_minus_inf
    if promised != "nan":
        return np.ones_like(nan), "anything"
    if op == "cross_entropy":
        return nan | (answer == np.inf), "NaN or +inf"
    if has_plus_inf:
        return nan | ((logits != np.inf) & np.isfinite(answer)), "NaN at +inf, and a number or NaN elsewhere"
    return nan, "NaN"


def _plus_inf(
    op: str, logits: NDArray[np.float64], answer: NDArray[np.float64], nan: Bool, contract: Contract
) -> tuple[Bool, str]:
    if op == "logsumexp":
        return nan | (answer == np.inf), "+inf or NaN"
    if contract.plus_inf == "any":
        return np.ones_like(nan), "anything"
    elsewhere = 0.0 if op in SIMPLEX_OPS else -np.inf
    at_inf = logits == np.inf
    return np.where(at_inf, nan, nan | (answer == elsewhere)), "NaN at +inf, and NaN or the limit elsewhere"
