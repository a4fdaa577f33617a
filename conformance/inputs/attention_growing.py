"""From a seedling to a call of attention, and the operands that clauses of attention examine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from softcert.backends.ops import lse_dtype, takes_scores
from softcert.backends.types import Array, Call, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_families import KINDS, Shape, make_operands
from softcert.conformance.inputs.features import OTHER_WIDTHS
from softcert.conformance.model import Trial
from softcert.conformance.spec import Seedling

#: What the lse and the output of a query that sees no key are, by the contract's words.
_EMPTY = {"-inf": -np.inf, "+inf": np.inf, "nan": np.nan, "any": -np.inf, "zero": 0.0, "mean": 0.0}


def attention_call(
    seedling: Seedling, context: Context, operands: tuple[Array, ...] | None = None, *, repeat: int = 1
) -> Call:
    """Call of the context's op of attention on the seedling's operands, or on others in their place.

    Operands (q, k, v, dout) of attention_vjp get the out and lse of a correctly rounded forward pass.
    """
    given = seedling.operands if operands is None else operands
    params: dict[str, int | float] = {}
    if seedling.scale is not None:
        params["scale"] = float(seedling.scale)
    if seedling.causal:
        params["causal"] = True
    call = Call(context.op, given, params, seedling.layout, repeat, seedling.mask)
    if context.op == "attention_vjp" and len(given) == 4:
        out, lse = forward_results(replace(call, op="attention_lse", operands=given[:3]), context)
        call = replace(call, operands=(*given[:3], out, lse, given[3]))
    return call


def forward_results(call: Call, context: Context) -> tuple[Array, Array]:
    """out and lse of a forward call, correctly rounded, as the subject's contract writes them."""
    dtype = call.operands[0].dtype.name
    of_out, of_lse = as_dtype(dtype), as_dtype(lse_dtype(dtype))
    exact_out, exact_lse = context.truths(call)
    out, lse = exact_out.round(dtype), exact_lse.round(lse_dtype(dtype))
    if context.contract.lse_base == "2":
        lse = (exact_lse.to_float64() / np.log(2.0)).astype(of_lse)
    empty = np.isneginf(exact_lse.to_float64())
    if empty.any():
        wanted = context.contract.masked_row, context.contract.masked_lse
        filler, sentinel = (_EMPTY[word] for word in wanted)
        out = np.where(empty[..., np.newaxis], filler, out.astype(np.float64)).astype(of_out)
        lse = np.where(empty, sentinel, lse.astype(np.float64)).astype(of_lse)
    return out, lse


def attend_once(seedling: Seedling, context: Context) -> Trial:
    """Trial of one plain call."""
    return Trial((attention_call(seedling, context),), seedling.extra, seedling.family)


def made(
    context: Context,
    kind: str,
    shape: Shape,
    seed: int = 0,
    *,
    batch: tuple[int, ...] = (),
    bare: bool = False,
    alike: bool = True,
    **facts: Any,
) -> Seedling:
    """Seedling of a kind of operands.

    Parameters
    ----------
    batch : axes before the heads, over which `shape` is repeated with other numbers.
    bare : without an axis of heads.
    alike : give the values as many columns as the keys have features, if the subject takes no other.
    facts : further fields of the seedling.
    """
    if alike and wants_alike(context):
        shape = replace(shape, values=shape.features)
    drawn = [make_operands(kind, context.dtype, shape, seed=seed + 101 * i) for i in range(_count(batch))]
    arrays = [np.stack([getattr(o, name) for o in drawn]) for name in "qkv"]
    dtype = as_dtype(context.dtype)
    operands = tuple(a.reshape(*batch, *a.shape[1:]).astype(dtype) for a in arrays)
    if bare:
        operands = tuple(a.reshape(a.shape[-2:]) for a in operands)
    return with_cotangent(Seedling(operands, family=kind, **facts), context, seed)


def wants_alike(context: Context) -> bool:
    """Whether the subject takes only values that have as many columns as the keys."""
    return OTHER_WIDTHS in context.lacks


def _count(batch: tuple[int, ...]) -> int:
    return int(np.prod(batch)) if batch else 1


def with_cotangent(seedling: Seedling, context: Context, seed: int = 0) -> Seedling:
    """The seedling of q, k and v with a cotangent of out, where the op takes one."""
    if context.op != "attention_vjp":
        return seedling
    q, _, v = seedling.operands[:3]
    rng = np.random.default_rng([seed, q.size, 7])
    dout = rng.standard_normal((*q.shape[:-1], v.shape[-1])).astype(q.dtype)
    return replace(seedling, operands=(*seedling.operands[:3], dout))


def with_operands(seedling: Seedling, **changed: Array) -> Seedling:
    """The seedling with some of q, k, v and dout replaced."""
    given = dict(zip(seedling.names, seedling.operands, strict=True))
    return replace(seedling, operands=tuple((given | changed).values()))


def moved_scores(seedling: Seedling, shift: float, context: Context) -> Seedling:
    """The seedling with one feature more, which adds `shift` to every score before nothing else changes.

    The scale becomes explicit and a power of two, so that the shift is exact in every format that holds it.
    Where the subject wants values as wide as keys, they and the cotangent get a column again.
    """
    q, k = seedling.operands[:2]
    features = q.shape[-1]
    scale = 2.0 ** -round(np.log2(max(features, 1)) / 2)
    of_q = np.full((*q.shape[:-1], 1), _root(abs(shift) / scale)).astype(q.dtype)
    of_k = np.full((*k.shape[:-1], 1), np.copysign(_root(abs(shift) / scale), shift)).astype(k.dtype)
    longer = {"q": np.concatenate([q, of_q], axis=-1), "k": np.concatenate([k, of_k], axis=-1)}
    if wants_alike(context):
        named = zip(seedling.names, seedling.operands, strict=True)
        longer |= {name: np.concatenate([a, a[..., :1]], axis=-1) for name, a in named if name not in "qk"}
    return replace(with_operands(seedling, **longer), scale=scale)


def _root(product: float) -> float:
    """Square root of a product, rounded to few bits, so that every format holds it and its square."""
    if product == 0.0:
        return 0.0
    root = product**0.5
    step = 2.0 ** (np.floor(np.log2(root)) - 3)
    return float(np.rint(root / step) * step)


def split_parts(seedling: Seedling, context: Context, at: int) -> Seedling:
    """Seedling of attention_merge: the results on the keys before `at` and on the others."""
    q, k, v = seedling.operands[:3]
    parts: list[Array] = []
    for keys in (slice(None, at), slice(at, None)):
        mask = None if seedling.mask is None else seedling.mask[..., keys]
        parts += _results((q, k[..., keys, :], v[..., keys, :]), mask, context)
    return Seedling(tuple(parts), family=seedling.family)


def _results(operands: tuple[Array, ...], mask: Array | None, context: Context) -> list[Array]:
    if not operands[1].shape[-2]:
        shape, dtype = operands[0].shape[:-1], context.dtype
        out = np.zeros((*shape, operands[2].shape[-1]), dtype=as_dtype(dtype))
        return [out, np.full(shape, -np.inf).astype(as_dtype(lse_dtype(dtype)))]
    return list(forward_results(Call("attention_lse", operands, {}, mask=mask), context))


def every_kind(context: Context, shapes: Iterable[Mapping[str, Any]]) -> Iterator[Seedling]:
    """Seedlings of every kind at each shape; causal ones every second time."""
    for shape in shapes:
        for place, kind in enumerate(KINDS):
            yield made(
                context, kind, Shape(**shape), place, causal=bool(place % 2) and takes_scores(context.op)
            )


__all__ = [
    "attend_once",
    "attention_call",
    "every_kind",
    "forward_results",
    "made",
    "moved_scores",
    "split_parts",
    "with_cotangent",
    "with_operands",
]
