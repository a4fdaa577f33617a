"""What a kernel may refuse: features that not every one has, found out by harmless calls.

A refusal is an exception that says "not this"; whatever else a kernel raises is a fault of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from softcert.backends.harmless import attention_operands, row_operands, shares_heads
from softcert.backends.ops import ATTENTION_OPS, ROW_OPTIONS, order_of, takes_scores
from softcert.backends.types import Array, Call, Failure, Reply, as_dtype
from softcert.conformance.judging.policy import ignored_rows

#: Exceptions by which a function says that it takes no arrays of a dtype.
REFUSING_DTYPES = ("TypeError", "NotImplementedError", "UnsupportedError")
#: Exceptions by which it says that it does not take what it was given.
REFUSING = (*REFUSING_DTYPES, "ValueError", "AssertionError", "RuntimeError")


def _crosses(call: Call) -> bool:
    return bool(call.operands[0].shape[-2] != call.operands[1].shape[-2])


def _is_causal(call: Call) -> bool:
    return bool(call.params.get("causal"))


def _broadcasts(call: Call) -> bool:
    full = (*call.operands[0].shape[:-1], call.operands[1].shape[-2])
    return call.mask is not None and call.mask.shape != full


def _groups(call: Call) -> int:
    return int(call.operands[1].shape[-3])


def _widest(call: Call) -> int:
    return int(max(call.operands[0].shape[-1], call.operands[2].shape[-1]))


def _batches(call: Call) -> int:
    return math.prod(call.operands[0].shape[:-3])


class Feature(NamedTuple):
    """Something that not every kernel takes.

    Attributes
    ----------
    needed : whether a call needs it.
    probe : a harmless call, of an op at a dtype, that needs it.
    option : the keyword without which a kernel cannot have it.
    thorough : effort of the profiles from which a clause needs it, where probing for it costs something.
    """

    needed: Callable[[Call], bool]
    probe: Callable[[str, str], Call]
    option: str = ""
    thorough: float = 0.0


_ALL = np.ones((2, 3, 3), dtype=bool)
#: The feature that operands can do without and still show everything else.
OTHER_WIDTHS = "values wider or narrower than keys"


def _harmless(
    op: str, dtype: str, heads: tuple[int, ...] = (2,), mask: Array | None = None, **facts: Any
) -> Call:
    """Harmless call; facts that are no keywords of the op are those of `attention_operands`."""
    params: dict[str, int | float] = {name: facts.pop(name) for name in ("scale", "causal") if name in facts}
    return Call(op, attention_operands(op, dtype, heads, **facts), params, mask=mask)


def _with_bias(op: str, dtype: str) -> Call:
    return _harmless(op, dtype, mask=np.zeros((2, 3, 3), dtype=as_dtype(dtype)))


def _wider_than(most: int) -> Feature:
    """Heads wider than kernels commonly stop at; the probe has the next width that tiles divide."""
    next_width = most + 32
    return Feature(lambda c: _widest(c) > most, partial(_harmless, features=next_width, width=next_width))


#: What the second and third axes of a grid of blocks have room for.
_GRID_AXIS = 65535
#: Each feature of ops that take scores, in words.
_OF_SCORES: Mapping[str, Feature] = MappingProxyType(
    {
        "a scale": Feature(lambda c: "scale" in c.params, partial(_harmless, scale=0.5), "scale"),
        "a causal mask": Feature(_is_causal, partial(_harmless, causal=True), "causal"),
        "a boolean mask": Feature(
            lambda c: c.mask is not None and c.mask.dtype == np.bool_, partial(_harmless, mask=_ALL), "mask"
        ),
        "an additive mask": Feature(
            lambda c: c.mask is not None and c.mask.dtype != np.bool_, _with_bias, "mask"
        ),
        "as many keys as not queries": Feature(_crosses, partial(_harmless, keys=5)),
        "a causal mask for as many keys as not queries": Feature(
            lambda c: _is_causal(c) and _crosses(c), partial(_harmless, keys=5, causal=True)
        ),
        "a mask that broadcasts": Feature(_broadcasts, partial(_harmless, mask=_ALL[0])),
        "a mask beside the causal one": Feature(
            lambda c: c.mask is not None and _is_causal(c), partial(_harmless, mask=_ALL, causal=True)
        ),
        OTHER_WIDTHS: Feature(
            lambda c: c.operands[2].shape[-1] != c.operands[0].shape[-1], partial(_harmless, width=6)
        ),
        # Those of one group broadcast, and come out right where nobody thought of groups.
        "heads that all share keys": Feature(
            lambda c: shares_heads(c.op, c.operands) and _groups(c) == 1, partial(_harmless, groups=1)
        ),
        "groups of heads that share keys": Feature(
            lambda c: shares_heads(c.op, c.operands) and _groups(c) > 1,
            partial(_harmless, heads=(4,), groups=2),
        ),
        "one head without an axis": Feature(lambda c: c.operands[0].ndim == 2, partial(_harmless, heads=())),
        "batches of heads": Feature(lambda c: c.operands[0].ndim == 4, partial(_harmless, heads=(2, 2))),
        **{f"heads wider than {most}": _wider_than(most) for most in (64, 128, 256)},
        f"more than {_GRID_AXIS} batches": Feature(
            lambda c: _batches(c) > _GRID_AXIS,
            partial(_harmless, heads=(_GRID_AXIS + 1, 1), queries=1, keys=1, features=1, width=1),
            thorough=1.0,
        ),
    }
)


def harmless_call(op: str, dtype: str, **options: float) -> Call:
    """A small call of any op on harmless numbers; of an op of rows with some of its options."""
    if op in ATTENTION_OPS:
        return _harmless(op, dtype)
    numbers = np.full((2, 4), 0.25).astype(as_dtype(dtype))
    return Call(op, row_operands(op, numbers), {"axis": -1, **options})


def _with_ignored(op: str, dtype: str) -> Call:
    call = harmless_call(op, dtype)
    x, target, *rest = call.operands
    marked = np.array([0, ROW_OPTIONS[op]["ignore_index"]], dtype=target.dtype)
    return replace(call, operands=(x, marked, *rest))


def _order(call: Call) -> float:
    return order_of(call.op, call.params)


#: The same of ops that have an order.
_OF_ORDERS: Mapping[str, Feature] = MappingProxyType(
    {
        "an order other than 1.5": Feature(
            lambda c: _order(c) != order_of(c.op, {}), partial(harmless_call, alpha=1.75), "alpha"
        ),
        "the order 2": Feature(lambda c: _order(c) == 2.0, partial(harmless_call, alpha=2.0)),
        "an order above 2": Feature(lambda c: _order(c) > 2.0, partial(harmless_call, alpha=3.0)),
    }
)


def _asks(option: str) -> Callable[[Call], bool]:
    return lambda call: call.params.get(option, ROW_OPTIONS[call.op][option]) != ROW_OPTIONS[call.op][option]


#: The same of losses.
_OF_LOSSES: Mapping[str, Feature] = MappingProxyType(
    {
        "ignored targets": Feature(lambda c: bool(ignored_rows(c).any()), _with_ignored, "ignore_index"),
        "another mark of ignored targets": Feature(
            _asks("ignore_index"), partial(harmless_call, ignore_index=1), "ignore_index"
        ),
        "label smoothing": Feature(
            _asks("label_smoothing"), partial(harmless_call, label_smoothing=0.25), "label_smoothing"
        ),
        "a z-loss": Feature(_asks("z_loss"), partial(harmless_call, z_loss=0.25), "z_loss"),
    }
)


#: The same of samplers; a seed is asked of a subject that takes none too, since the worker has its own way.
_OF_SAMPLERS: Mapping[str, Feature] = MappingProxyType(
    {
        "a temperature other than 1": Feature(_asks("tau"), partial(harmless_call, tau=0.5), "tau"),
        "one-hot samples": Feature(_asks("hard"), partial(harmless_call, hard=1), "hard"),
    }
)
#: Features of ops of rows by the option that tells of which kind an op is.
_BY_OPTION: Mapping[str, Mapping[str, Feature]] = MappingProxyType(
    {"alpha": _OF_ORDERS, "label_smoothing": _OF_LOSSES, "tau": _OF_SAMPLERS}
)


def features_of(op: str) -> Mapping[str, Feature]:
    """The features that an op has and a kernel of it may lack, in words."""
    if takes_scores(op):
        return _OF_SCORES
    options = ROW_OPTIONS.get(op, {})
    return next((features for option, features in _BY_OPTION.items() if option in options), {})


def probes(op: str, dtype: str, thorough: float) -> list[Call]:
    """The harmless calls by which each feature is found out that a profile of some effort needs."""
    return [feature.probe(op, dtype) for feature in features_of(op).values() if feature.thorough <= thorough]


def missing(call: Call, lacks: Mapping[str, str]) -> str | None:
    """A feature that a call needs and the subject lacks, if there is one."""
    features = features_of(call.op) if lacks else {}
    return next((name for name in lacks if name in features and features[name].needed(call)), None)


def lacking(
    op: str, dtype: str, options: tuple[str, ...], ask: Callable[[Call], Reply], thorough: float
) -> dict[str, str]:
    """Which features a subject refuses at an op and dtype, and in which words.

    Parameters
    ----------
    options : the keywords that it takes. ask : makes a call. thorough : effort of the profile.
    """
    found: dict[str, str] = {}
    features = features_of(op)
    # A kernel that refuses everything refuses no feature.
    answers = bool(features) and not isinstance(ask(harmless_call(op, dtype)), Failure)
    for name, feature in features.items():
        if feature.thorough > thorough:
            continue
        call = feature.probe(op, dtype)
        if feature.option and feature.option not in options:
            found[name] = f"takes no {feature.option}"
        elif answers and missing(call, found) is None:
            reply = ask(call)
            if refuses(reply):
                found[name] = reply.message
    return found


def refuses(reply: Reply, names: tuple[str, ...] = REFUSING) -> TypeGuard[Failure]:
    """Whether a reply is an exception of one of these names, and the subject's own word."""
    if not isinstance(reply, Failure) or reply.kind != "exception" or not reply.by_subject:
        return False
    return reply.message.startswith(names)
