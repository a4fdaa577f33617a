"""A call reads its inputs, gives its result, and leaves everything else as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from softcert.backends.ops import own_changed
from softcert.backends.types import LAYOUTS, SIDE_EFFECTS, Output
from softcert.conformance.clauses.determinism import differing
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_directed import few
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import (
    by_family,
    call_of,
    from_rows,
    one_call,
    operands_from,
    stack,
    trial_of,
)
from softcert.conformance.judging.evidence import broken, judge_shape, relation_finding
from softcert.conformance.judging.judge import judge_values, result_quantity
from softcert.conformance.judging.shapes import misshapen
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import ALL_OPS, EVERY_OP, PRODUCT_OPS, SAMPLING_OPS, Clause, Seedling

_SHAPES = ((1,), (5,), (4, 3), (1, 1), (2, 1, 5), (2, 3, 4, 5), (3, 33), (2, 1, 3, 1, 4), (1, 2, 1, 3, 2, 2))
#: Square ones too: there a transposed array has the shape of the plain one.
_LAID_OUT = (
    ((7,), -1),
    ((4, 5), -1),
    ((4, 5), 0),
    ((6, 6), -1),
    ((3, 4, 6), 1),
    ((5, 5, 5), 0),
    ((3, 70), -1),
)
#: Square ones too: there one axis passes for another.
_OF_ANY_AXIS = (
    (4, 5),
    (4, 4),
    (3, 4, 6),
    (3, 3, 3),
    (2, 3, 4, 5),
    (2, 1, 3, 2, 2),
    (64, 3),
    (1030, 2),
)
#: Lines that lie side by side, in numbers that are no multiple of a tile.
_BESIDE_TILES = ((3, 4), (4, 9), (5, 11), (3, 2, 19), (2, 5, 37), (6, 67))
#: A kernel that puts numbers in the place of these may do so in the caller's array.
_SPECIAL = (
    (np.nan, 1.0, 2.0),
    (-np.inf, 1.0, 2.0),
    (np.inf, 1.0, 2.0),
    (-np.inf, -np.inf),
    (0.0, 1e-30, -1e3),
)


_KEPT = "the same row gave other bits after calls on other rows: something was kept from call to call"


def _shapes(context: Context) -> Iterator[Seedling]:
    for shape in _SHAPES:
        for axis in sorted({-1, 0, -len(shape)}, reverse=True):
            yield stack(context, shape, axis, "normal")


def _judge_side_effects(_trial: Trial, outputs: tuple[Output, ...], context: Context) -> Judgement:
    allowed = set() if context.contract.deterministic else {"first-call-differs"}
    for position, output in enumerate(outputs):
        found = [name for name in output.side_effects if name not in allowed]
        if found:
            effects = "; ".join(SIDE_EFFECTS[name] for name in found)
            return broken(relation_finding(position, None, "side effects", ", ".join(found), effects), 1)
    return Judgement(elements=sum(int(value.size) for o in outputs for value in o.values))


def _plain(context: Context) -> Iterator[Seedling]:
    for n in (1, 3, 8, 64):
        x = make_row("normal", n, n, 2.0, context.dtype)
        yield Seedling(operands_from(context, x, n), family="normal")
    yield stack(context, (5, 9), -1, "normal")
    yield stack(context, (5, 9), 0, "normal")
    yield stack(context, (1024, 3), -1, "normal")
    yield stack(context, (2, 3, 4, 5), 1, "normal")
    for n in (257, 4097, 33000):
        yield Seedling(operands_from(context, make_row("ties", n, n, 2.0, context.dtype), n), family="ties")
    if context.op not in PRODUCT_OPS:
        yield from from_rows(context, _SPECIAL, "special")


def _grow_around(seedling: Seedling, context: Context) -> Trial:
    """A call, one on other numbers of the same shape, and the first again."""
    call = call_of(seedling, context)
    return trial_of(seedling, call, call_of(seedling, context, _nudged(seedling)), call)


def _laid_out(context: Context) -> Iterator[Seedling]:
    for layout in LAYOUTS if context.op in PRODUCT_OPS else [k for k in LAYOUTS if k != "mixed"]:
        for shape, axis in _LAID_OUT:
            plain = stack(context, shape, axis, "normal", 2.0)
            if layout == "broadcast" and len(shape) > 1:
                plain = replace(plain, operands=own_changed(context.op, plain.operands, _same_rows))
            yield replace(plain, layout=layout)


def _along_axes(context: Context) -> Iterator[Seedling]:
    for shape in _OF_ANY_AXIS:
        for axis in range(-len(shape), len(shape)):
            yield stack(context, shape, axis, "normal", 2.0)
    # a kernel that takes several lines at once starts each at its own maximum, and the last few too
    for shape in _BESIDE_TILES:
        for axis in range(len(shape) - 1):
            yield stack(context, shape, axis, "offset-down", 2.0)
            yield stack(context, shape, axis, "offset-up", 2.0)


def _few_laid_out(context: Context) -> Iterator[Seedling]:
    yield from (replace(seedling, layout=layout) for layout in LAYOUTS for seedling in few(context))


def _same_rows(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(a[:1], a.shape))


def _grow_state(seedling: Seedling, context: Context) -> Trial:
    """A row, others that differ from it a little or a lot, and the row again."""
    x = seedling.operands[0]
    swapped = tuple(np.ascontiguousarray(a[..., ::-1]) if a.ndim == x.ndim else a for a in seedling.own)
    first = call_of(seedling, context)
    changed = _nudged(seedling), (*swapped, *seedling.tree)
    others = [call_of(seedling, context, operands) for operands in changed]
    return trial_of(seedling, first, *others, first, relation={"n": int(x.shape[-1])})


def _nudged(seedling: Seedling) -> tuple[np.ndarray, ...]:
    """Operands that differ in the last place of each row of the last one; of a loss, of its logits."""
    which = 0 if seedling.labelled else len(seedling.operands) - 1
    moved = seedling.operands[which].copy()
    moved[..., -1] = moved[..., -1] * moved.dtype.type(0.5) + moved.dtype.type(0.25)
    return (*seedling.operands[:which], moved, *seedling.operands[which + 1 :])


def _judge_state(trial: Trial, outputs: tuple[Output, ...], context: Context) -> Judgement:
    if any(misshapen(c, o.values) for c, o in zip(trial.calls, outputs, strict=True)):
        return Judgement()  # shape-dtype judges that
    values = judge_values(trial, tuple(value for o in outputs for value in o.values), context)
    if values.finding is not None or not context.contract.deterministic:
        return values
    for k, (first, last) in enumerate(zip(outputs[0].values, outputs[-1].values, strict=True)):
        where = differing(first, last)
        if where.any():
            at = tuple(int(i) for i in np.argwhere(np.atleast_1d(where))[0]) if where.ndim else ()
            name = result_quantity(trial.calls[0], k, at)
            finding = relation_finding(len(outputs) - 1, at, name, last[at], _KEPT, result=k)
            return broken(finding, values.elements)
    return values


def _stateful(context: Context) -> Iterator[Seedling]:
    for n in (2, 5, 33):
        x = make_row("normal", n, n, 2.0, context.dtype)
        yield Seedling(operands_from(context, x, n), family="normal")
    yield stack(context, (4, 6), -1, "normal")


CLAUSES = (
    Clause(
        id="purity.shape-dtype",
        statement="the result has the input's shape (logsumexp: without the axis) and the input's dtype",
        mathematics="f : F^(..., n) -> F^(..., n)",
        source="the op's signature",
        in_practice="float64 coming back for float32, kept dimensions, a flattened batch",
        ops=(*EVERY_OP, *SAMPLING_OPS),
        directed=by_family(_shapes, few),
        grow=one_call,
        inspect=judge_shape,
    ),
    Clause(
        id="purity.side-effects",
        statement="a call changes no input, no earlier result, and not the floating-point "
        "environment, its result does not live in its input, and the first call is as good as the next",
        mathematics="f is a function",
        source="the op's signature; pytorch#96602 (input overwritten), torch.set_flush_denormal "
        "(whole thread)",
        in_practice="x -= x.max() on the caller's array, a static output buffer, flush-to-zero left on, "
        "a first call that only warms up",
        ops=(*EVERY_OP, *SAMPLING_OPS),
        directed=by_family(_plain, few),
        grow=_grow_around,
        inspect=_judge_side_effects,
    ),
    Clause(
        id="purity.layout",
        statement="strided, reversed, broadcast and transposed inputs give what contiguous ones give",
        mathematics="f depends on the elements, not on where they lie",
        source="array semantics; MIOpen (rocm-libraries#11387), mlx#658, burn#4815",
        in_practice="softmax of the storage in place of softmax of the view",
        ops=EVERY_OP,
        directed=by_family(_laid_out, _few_laid_out),
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="purity.axis",
        statement="any axis may be reduced, counted from the front or from the back",
        mathematics="f(x, axis)[..., :, ...] = f(x[..., :, ...])",
        source="the op's signature; entmax 1.3 raises on dim=-2",
        in_practice="the axis ignored, or the whole array normalised at once",
        ops=ALL_OPS,
        directed=_along_axes,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="purity.stateless",
        statement="no result is kept across calls: each call answers for its own input",
        mathematics="f(a), f(b), f(a) give the first and last the same bits, each its own exact value",
        source="definition of a function; result reuse is a known way of cheating benchmarks",
        in_practice="a cache keyed by shape, address or first element",
        ops=EVERY_OP,
        directed=by_family(_stateful, few),
        grow=_grow_state,
        inspect=_judge_state,
    ),
)
