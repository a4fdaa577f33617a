"""What a call of attention must give, element by element: exact values, bounds, policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert import reference
from softcert.backends.contract import Contract
from softcert.backends.ops import OPERANDS, takes_scores
from softcert.backends.types import Array, Call
from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic, attention_arithmetic
from softcert.conformance.bounds.attention_backward import Cotangents, attention_backward_bounds
from softcert.conformance.bounds.attention_facts import Bool, Float, Operands
from softcert.conformance.bounds.attention_forward import attention_bounds, vacuous
from softcert.conformance.bounds.attention_merge import merge_bounds
from softcert.conformance.judging.batches import alike_batches
from softcert.conformance.judging.shapes import expected_results
from softcert.reference import Enclosure

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LN_2 = float(np.log(2.0))


@dataclass(frozen=True)
class Special:
    """Elements that have no exact value: which, and what the contract wants there.

    Attributes
    ----------
    where : of the shape of the result.
    wanted : "zero", "nan", "mean", "-inf" or "+inf".
    reason : in words, to follow "where".
    mean : of the values, where that is wanted; broadcasts to the result.
    """

    where: Bool
    wanted: str
    reason: str
    mean: tuple[Float, Float] | None = None


@dataclass(frozen=True)
class Part:
    """One result of a call: what is known of it.

    Attributes
    ----------
    name, dtype : of the result.
    truth : the exact values.
    bound : absolute, of the error of each element; infinite or NaN where the contract promises none.
    vacuous : where the bound would accept anything.
    ordinary : where an element is to be judged by its exact value.
    special : what is to be judged by policy.
    unit : the value is multiplied by this before it is judged (lse to base 2).
    """

    name: str
    dtype: str
    truth: Enclosure
    bound: Float
    vacuous: Bool
    ordinary: Bool
    special: tuple[Special, ...] = ()
    unit: float = 1.0


def attention_kernel_arithmetic(contract: Contract, dtype: str) -> AttentionArithmetic:
    """Return the arithmetic that a contract promises of attention on arrays of `dtype`."""
    a = attention_arithmetic(
        contract,
        dtype,
        weights=contract.attention_weights,
        scores=contract.attention_scores,
        scaled=contract.attention_inputs,
    )
    return replace(a, gradient_block=contract.gradient_block)


def attention_truth(call: Call, contract: Contract, method: str = "fast") -> tuple[Enclosure, ...]:
    """Certified enclosures of the exact results of a call."""
    alike = alike_batches(call)
    if alike is not None:
        return tuple(e[alike.place] for e in attention_truth(alike.one_of_each(call), contract, method))
    function: Callable[..., Any] = getattr(reference, call.op)
    operands = [_natural(name, a, contract) for name, a in zip(OPERANDS[call.op], call.operands, strict=True)]
    if not takes_scores(call.op):
        found = function(*operands, method=method)
    else:
        options: dict[str, Any] = {"scale": call.params.get("scale"), "causal": _causal(call, contract)}
        found = function(*operands, mask=call.mask, method=method, **options)
    return found if isinstance(found, tuple) else (found,)


def attention_parts(
    call: Call, contract: Contract, truths: tuple[Enclosure, ...], *, remade: bool = False
) -> tuple[Part, ...]:
    """Everything that is known of the results of a call.

    Parameters
    ----------
    remade : bound attention_vjp as the work of a program that makes the forward pass anew, against the
        gradient of attention itself, of which `truths` then are enclosures.
    """
    alike = alike_batches(call)
    if alike is not None:
        fewer = tuple(truth[alike.first] for truth in truths)
        parts = attention_parts(alike.one_of_each(call), contract, fewer, remade=remade)
        return tuple(_of_all(part, alike.place, truth) for part, truth in zip(parts, truths, strict=True))
    with np.errstate(all="ignore"):
        return _MAKERS[call.op](call, contract, truths, remade)


def remade_truth(call: Call, contract: Contract) -> tuple[Enclosure, ...]:
    """Gradient of attention itself: of the exact out and lse, to binary64, in place of those given."""
    forward = replace(call, op="attention_lse", operands=call.operands[:3])
    out, lse = (e.to_float64() for e in attention_truth(forward, contract))
    q, k, v, *_, dout = call.operands
    natural = replace(contract, lse_base="e")
    return attention_truth(replace(call, operands=(q, k, v, out, lse, dout)), natural)


def _of_all(part: Part, place: NDArray[np.intp], truth: Enclosure) -> Part:
    """What is known of one batch of each kind, said of all; `truth` is that of all."""
    special = tuple(
        replace(
            one,
            where=one.where[place],
            mean=None if one.mean is None else (one.mean[0][place], one.mean[1][place]),
        )
        for one in part.special
    )
    return replace(
        part,
        truth=truth,
        bound=part.bound[place],
        vacuous=part.vacuous[place],
        ordinary=part.ordinary[place],
        special=special,
    )


# --- operands ---


def exact_operands(call: Call, contract: Contract) -> Operands:
    """q, k, v and mask of a call as `Operands`, batches and heads in one axis."""
    q, k, v = (_headed(a) for a in call.operands[:3])
    mask = call.mask
    if mask is not None:
        shape = (*call.operands[0].shape[:-1], call.operands[1].shape[-2])
        mask = np.broadcast_to(mask, shape).reshape(len(q), *shape[-2:])
        if mask.dtype != np.bool_:
            mask = mask.astype(np.float64)
    scale = call.params.get("scale")
    return Operands(q, k, v, None if scale is None else float(scale), _causal(call, contract), mask)


def _causal(call: Call, contract: Contract) -> bool | str:
    return contract.causal if call.params.get("causal", False) else False


def _headed(array: Array) -> Float:
    """(..., n, m) as (H, n, m) in binary64."""
    return array.reshape(math.prod(array.shape[:-2]), *array.shape[-2:]).astype(np.float64)


def _natural(name: str, array: Array, contract: Contract) -> Array:
    """The operand, an lse to base 2 turned to the natural one; its rounding is below all bounds."""
    if not name.startswith("lse") or contract.lse_base == "e":
        return array
    return np.asarray(array.astype(np.float64) * _LN_2)


# --- forward ---


def _forward(
    call: Call, contract: Contract, truths: tuple[Enclosure, ...], _remade: bool
) -> tuple[Part, ...]:
    operands = exact_operands(call, contract)
    a = attention_kernel_arithmetic(contract, call.operands[0].dtype.name)
    found = attention_bounds(operands, a)
    unseen = found.exact_lse == -np.inf
    undefined, free = _not_numbers(operands, contract)
    nan = "a NaN is seen"
    empty = "no key is seen"
    parts = []
    bounds = {"out": found.out, "lse": found.lse}
    idle = {"out": found.out_vacuous, "lse": found.lse_vacuous}
    for (shape, dtype), name, truth in zip(expected_results(call), call.result_names, truths, strict=True):
        none = _fit(unseen, shape, name)
        required = _fit(undefined[name], shape, name) & ~none
        loose = _fit(free, shape, name)
        wanted = contract.masked_row if name == "out" else contract.masked_lse
        mean = _mean_of_values(operands, shape) if wanted == "mean" else None
        special = [Special(none & ~loose, wanted, empty, mean)] if wanted != "any" else []
        if contract.nan == "propagate":
            special.append(Special(required & ~loose, "nan", nan))
        ordinary = np.isfinite(truth.to_float64()) & ~none & ~loose
        bound, says_nothing = bounds[name].reshape(shape), idle[name].reshape(shape)
        parts.append(
            Part(name, dtype, truth, bound, says_nothing, ordinary, tuple(special), _unit(name, contract))
        )
    return tuple(parts)


def _unit(name: str, contract: Contract) -> float:
    """What a result is multiplied by before it is judged."""
    return _LN_2 if name == "lse" and contract.lse_base == "2" else 1.0


def _fit(rows: Bool, shape: tuple[int, ...], name: str) -> Bool:
    """Facts of queries, or of each number, in the shape of a result."""
    if name == "out" and rows.size != math.prod(shape):
        return np.broadcast_to(rows.reshape(*shape[:-1], 1), shape)
    return np.asarray(rows.reshape(shape))


def _mean_of_values(operands: Operands, shape: tuple[int, ...]) -> tuple[Float, Float]:
    """Mean of all values of each head, and of their magnitudes, broadcast to the output's shape."""
    v = np.repeat(operands.v, operands.sharing, axis=0)

    def mean(array: Float) -> Float:
        whole = (len(v), shape[-2], shape[-1])
        return np.asarray(np.broadcast_to(array.mean(axis=1, keepdims=True), whole).reshape(shape))

    return mean(v), mean(np.abs(v))


def _not_numbers(operands: Operands, contract: Contract) -> tuple[dict[str, Bool], Bool]:
    """Where NaN has to come out, by result, and queries of which nothing is said.

    A query that hides a key that is no number is free unless the contract says that such keys do not matter;
    so is one that sees an infinity, whose result is a NaN by one order of steps and a limit by another.
    """
    heads, length, keys = *operands.q.shape[:2], operands.k.shape[1]
    undefined = {
        "out": np.zeros((heads, length, operands.v.shape[-1]), dtype=bool),
        "lse": np.zeros((heads, length), dtype=bool),
    }
    free = np.zeros((heads, length), dtype=bool)
    mask = operands.mask
    bias = None if mask is None or mask.dtype == np.bool_ else np.broadcast_to(mask, (heads, length, keys))
    if bias is None and all(np.isfinite(x).all() for x in (operands.q, operands.k, operands.v)):
        return undefined, free
    for head in range(heads):
        group = head // operands.sharing
        q, k, v = operands.q[head], operands.k[group], operands.v[group]
        seen = seen_keys(operands, head)
        bad_q, bad_k = (np.isnan(x).any(axis=-1) for x in (q, k))
        spoilt = (seen & (bad_q[:, None] | bad_k)).any(axis=-1)
        undefined["lse"][head] = spoilt
        undefined["out"][head] = spoilt[:, None] | ((seen.astype(float) @ np.isnan(v).astype(float)) > 0)
        endless = np.isinf(q).any(axis=-1)[:, None] | (np.isinf(k).any(axis=-1) | np.isinf(v).any(axis=-1))
        free[head] = (seen & endless).any(axis=-1)
        if bias is not None:
            # a mask that adds NaN or +inf says nothing of its own
            free[head] |= (np.isnan(bias[head]) | (bias[head] == np.inf)).any(axis=-1)
        if contract.masked_nan == "any":
            broken = ~(np.isfinite(k).all(axis=-1) & np.isfinite(v).all(axis=-1))
            free[head] |= (~seen & broken).any(axis=-1)
    return undefined, free


def _all_see(operands: Operands) -> bool:
    """Whether every query sees a key."""
    return all(
        bool((tile.number > 0).all()) for head in range(len(operands.q)) for tile in operands.tiles(head)
    )


def seen_keys(operands: Operands, head: int) -> Bool:
    """Which keys each query of a head sees, (L, S)."""
    shown = np.zeros((operands.q.shape[1], operands.k.shape[1]), dtype=bool)
    for tile in operands.tiles(head):
        shown[tile.rows, : tile.count] = True if tile.seen is None else tile.seen
    return shown


# --- backward ---


def _backward(
    call: Call, contract: Contract, truths: tuple[Enclosure, ...], remade: bool
) -> tuple[Part, ...]:
    operands = exact_operands(call, contract)
    dtype = call.operands[0].dtype.name
    a = attention_kernel_arithmetic(contract, dtype)
    out, lse, dout = (
        _natural(n, x, contract).astype(np.float64)
        for n, x in zip(("out", "lse", "dout"), call.operands[3:], strict=True)
    )
    heads, length = operands.q.shape[:2]
    values = operands.v.shape[-1]
    given = Cotangents(
        out.reshape(heads, length, values), lse.reshape(heads, length), dout.reshape(heads, length, values)
    )
    if remade:
        forward = attention_bounds(operands, a)
        exact = Cotangents(forward.exact_out, forward.exact_lse, given.dout)
        found = attention_backward_bounds(operands, exact, a, forward)
    else:
        found = attention_backward_bounds(operands, given, a)
    # where nothing is promised of empty queries, nothing is of the keys that they might reach
    judged = contract.masked_row == "zero" or _all_see(operands)
    finite = all(bool(np.isfinite(x).all()) for x in (operands.q, operands.k, operands.v))
    judged = judged and (finite or contract.masked_nan == "ignored")
    widen = 2.0 if remade and dtype == "float64" else 1.0  # out and lse are no wider than binary64 here
    parts = []
    pairs = zip(call.result_names, truths, (found.dq, found.dk, found.dv), found.vacuous, strict=True)
    for (shape, kind), (name, truth, bound, idle) in zip(expected_results(call), pairs, strict=True):
        ordinary = np.isfinite(truth.to_float64()) & judged
        parts.append(Part(name, kind, truth, widen * bound.reshape(shape), idle.reshape(shape), ordinary))
    return tuple(parts)


# --- merge ---


def _merge(call: Call, contract: Contract, truths: tuple[Enclosure, ...], _remade: bool) -> tuple[Part, ...]:
    out_a, lse_a, out_b, lse_b = (
        _natural(name, x, contract).astype(np.float64)
        for name, x in zip(OPERANDS[call.op], call.operands, strict=True)
    )
    lse = np.stack([lse_a.ravel(), lse_b.ravel()])
    out = np.stack([x.reshape(lse_a.size, out_a.shape[-1]) for x in (out_a, out_b)])
    a = attention_kernel_arithmetic(contract, call.operands[0].dtype.name)
    of_out, of_lse, out_size = merge_bounds(lse, out, a)
    both_empty = np.asarray((lse == -np.inf).all(axis=0))
    bounds = {"out": (of_out, out_size), "lse": (of_lse, np.full_like(of_lse, _LN_2))}
    # of two empty parts no mean can be known
    wants = {
        "out": "any" if contract.masked_row == "mean" else contract.masked_row,
        "lse": contract.masked_lse,
    }
    parts = []
    for (shape, kind), name, truth in zip(expected_results(call), call.result_names, truths, strict=True):
        bound, size = (x.reshape(shape) for x in bounds[name])
        empty, wanted = _fit(both_empty, shape, name), wants[name]
        special = (Special(empty, wanted, "both parts are empty"),) if wanted != "any" else ()
        ordinary = np.isfinite(truth.to_float64()) & ~empty
        idle = vacuous(bound, size)
        parts.append(Part(name, kind, truth, bound, idle, ordinary, special, _unit(name, contract)))
    return tuple(parts)


_MAKERS: Mapping[str, Callable[..., tuple[Part, ...]]] = MappingProxyType(
    {"attention": _forward, "attention_lse": _forward, "attention_vjp": _backward, "attention_merge": _merge}
)

__all__ = [
    "Part",
    "Special",
    "attention_parts",
    "attention_truth",
    "exact_operands",
    "remade_truth",
    "seen_keys",
]
