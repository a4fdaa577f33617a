"""What a kernel of attention may refuse: features that not every one has, found out by harmless calls.

A refusal is an exception that says "not this"; whatever else a kernel raises is a fault of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from softcert.backends.ops import ATTENTION_OPS, AXES, OPERANDS, operand_dtypes, takes_scores
from softcert.backends.types import Array, Call, Failure, Reply, as_dtype

#: Exceptions by which a function says that it does not take what it was given.
REFUSING = ("TypeError", "NotImplementedError", "ValueError", "AssertionError", "RuntimeError")


def _rank(call: Call) -> int:
    return call.operands[0].ndim


def _shares(call: Call) -> bool:
    q, k = call.operands[:2]
    return q.ndim > 2 and k.ndim > 2 and q.shape[-3] != k.shape[-3]


def _crosses(call: Call) -> bool:
    return bool(call.operands[0].shape[-2] != call.operands[1].shape[-2])


def _broadcasts(call: Call) -> bool:
    full = (*call.operands[0].shape[:-1], call.operands[1].shape[-2])
    return call.mask is not None and call.mask.shape != full


#: Each feature in words, and whether a call needs it; of ops that take scores.
FEATURES: Mapping[str, Callable[[Call], bool]] = MappingProxyType(
    {
        "a scale": lambda c: "scale" in c.params,
        "a causal mask": lambda c: bool(c.params.get("causal")),
        "a boolean mask": lambda c: c.mask is not None and c.mask.dtype == np.bool_,
        "an additive mask": lambda c: c.mask is not None and c.mask.dtype != np.bool_,
        "as many keys as not queries": _crosses,
        "a causal mask for as many keys as not queries": lambda c: (
            bool(c.params.get("causal")) and _crosses(c)
        ),
        "a mask that broadcasts": _broadcasts,
        "a mask beside the causal one": lambda c: c.mask is not None and bool(c.params.get("causal")),
        "values wider or narrower than keys": lambda c: c.operands[2].shape[-1] != c.operands[0].shape[-1],
        "heads that share keys": _shares,
        "one head without an axis": lambda c: _rank(c) == 2,
        "batches of heads": lambda c: _rank(c) == 4,
    }
)
#: The keyword that a feature needs.
_OPTIONS = MappingProxyType(
    {"a scale": "scale", "a causal mask": "causal", "a boolean mask": "mask", "an additive mask": "mask"}
)


def harmless_call(op: str, dtype: str) -> Call:
    """A small call of any op on harmless numbers."""
    if op in ATTENTION_OPS:
        return _harmless(op, dtype)
    numbers = np.full((2, 4), 0.25).astype(as_dtype(dtype))
    return Call(op, (numbers,) * len(OPERANDS[op]))


def missing(call: Call, lacks: Mapping[str, str]) -> str | None:
    """A feature that a call needs and the subject lacks, if there is one."""
    if not lacks or not takes_scores(call.op):
        return None
    return next((name for name in lacks if FEATURES[name](call)), None)


def lacking(op: str, dtype: str, options: tuple[str, ...], ask: Callable[[Call], Reply]) -> dict[str, str]:
    """Which features a subject refuses at an op, and in which words.

    Parameters
    ----------
    options : the keywords that it takes. ask : makes a call.
    """
    found: dict[str, str] = {}
    if not takes_scores(op):
        return found
    plain = ask(_harmless(op, dtype))
    for name in FEATURES:
        option = _OPTIONS.get(name)
        call = _probe(name, op, dtype)
        if option is not None and option not in options:
            found[name] = f"takes no {option}"
        elif missing(call, found) is None:
            reply = ask(call)
            if isinstance(reply, Failure) and _refuses(reply) and not isinstance(plain, Failure):
                found[name] = reply.message
    return found


def _refuses(reply: Failure) -> bool:
    return reply.kind == "exception" and reply.message.startswith(REFUSING)


def _probe(feature: str, op: str, dtype: str) -> Call:
    """A harmless call that needs a feature."""
    full = np.ones((2, 3, 3), dtype=bool)
    added = np.zeros((2, 3, 3), dtype=as_dtype(dtype))
    probes: dict[str, Call] = {
        "a scale": _harmless(op, dtype, scale=0.5),
        "a causal mask": _harmless(op, dtype, causal=True),
        "a boolean mask": _harmless(op, dtype, mask=full),
        "an additive mask": _harmless(op, dtype, mask=added),
        "as many keys as not queries": _harmless(op, dtype, keys=5),
        "a causal mask for as many keys as not queries": _harmless(op, dtype, keys=5, causal=True),
        "a mask that broadcasts": _harmless(op, dtype, mask=full[0]),
        "a mask beside the causal one": _harmless(op, dtype, mask=full, causal=True),
        "values wider or narrower than keys": _harmless(op, dtype, width=6),
        "heads that share keys": _harmless(op, dtype, groups=1),
        "one head without an axis": _harmless(op, dtype, heads=()),
        "batches of heads": _harmless(op, dtype, heads=(2, 2)),
    }
    return probes[feature]


def _harmless(
    op: str,
    dtype: str,
    *,
    keys: int = 3,
    width: int = 4,
    groups: int = 2,
    heads: tuple[int, ...] = (2,),
    mask: Array | None = None,
    scale: float | None = None,
    causal: bool = False,
) -> Call:
    lengths = {"L": 3, "S": keys, "D": 4, "E": width}
    shared = (*heads[:-1], groups) if heads else ()
    operands = []
    for name, kind in zip(OPERANDS[op], operand_dtypes(op, dtype), strict=True):
        axes = AXES[name]
        lead = shared if axes[0] == "G" else heads
        shape = (*lead, *(lengths[axis] for axis in axes[1:]))
        numbers = np.arange(math.prod(shape)) % 7 * 0.125 - 0.25
        operands.append(numbers.astype(as_dtype(kind)).reshape(shape))
    params: dict[str, int | float] = {} if scale is None else {"scale": scale}
    if causal:
        params["causal"] = True
    if mask is not None and mask.ndim == 3:
        mask = np.ascontiguousarray(mask[: heads[-1]])
    return Call(op, tuple(operands), params, mask=mask)
