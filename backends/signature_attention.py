"""How a function of attention that was not written for softcert is called, read from its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from types import MappingProxyType
from typing import Any

from softcert.backends.ops import ATTENTION_OPTIONS, OPERANDS, takes_scores
from softcert.errors import SubjectError

#: Other names of the keywords, for each the canonical one first; `gqa` has to be told of shared heads, and
#: `bias` takes a mask that is added, where `mask` takes none.
_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "scale": ("scale", "sm_scale", "softmax_scale", "scaling", "scale_factor"),
        "causal": ("causal", "is_causal"),
        "mask": ("mask", "attn_mask", "attention_mask"),
        "gqa": ("enable_gqa",),
        "bias": ("bias", "attn_bias"),
    }
)
#: Other names of operands, in small letters, for functions that take them in another order.
_ALIASES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "q": frozenset({"q", "query", "queries"}),
        "k": frozenset({"k", "key", "keys"}),
        "v": frozenset({"v", "value", "values"}),
        "out": frozenset({"out", "o", "output"}),
        "lse": frozenset({"lse", "logsumexp", "log_sum_exp", "softmax_lse"}),
        "dout": frozenset({"dout", "do", "d_out", "grad_out", "grad_output", "grad"}),
    }
)
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class AttentionForm:
    """How a function is called.

    Attributes
    ----------
    order : the operands in the order in which the function takes them, by number.
    named : for operands that go by name, the name, by number.
    options : the name of each keyword of `ATTENTION_OPTIONS` (and "gqa", "bias") that the function takes.
    heads_behind : the function has its heads behind queries and keys, (batch, queries, heads, features).
    """

    order: tuple[int, ...]
    named: Mapping[int, str]
    options: Mapping[str, str]
    heads_behind: bool = False

    def arguments(
        self, operands: Sequence[Any], options: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of a call; keywords that the function lacks are an error.

        Raises
        ------
        TypeError : a keyword that the function does not take.
        """
        for name in options:
            if name not in self.options:
                raise TypeError(f"the function takes no {name}")
        by_name = {name: operands[k] for k, name in self.named.items()}
        by_name |= {self.options[name]: value for name, value in options.items()}
        return [operands[k] for k in self.order], by_name


def read_attention_forms(function: Callable[..., Any], op: str) -> tuple[AttentionForm, ...]:
    """Forms in which a function might be called, the likeliest first; one if its signature says.

    Raises
    ------
    SubjectError : the signature cannot be the op's, and the message says why.
    """
    everything = tuple(range(len(OPERANDS[op])))
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return _guesses(everything, op)
    kinds = {p.kind for p in parameters}
    named = [p for p in parameters if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    options = _options(named, op, open_ended=Parameter.VAR_KEYWORD in kinds)
    others = [p for p in named if p.name not in options.values()]
    taken = _operands(others, op)
    if taken is None and Parameter.VAR_POSITIONAL in kinds:
        return (AttentionForm(everything, {}, options),)
    if taken is None:
        raise SubjectError(f"its signature has no place for the operands ({', '.join(OPERANDS[op])}) of {op}")
    for parameter in others:
        if parameter.default is Parameter.empty and parameter.name not in taken:
            raise SubjectError(f"it requires an argument {parameter.name!r} that {op} does not have")
    return (_form(others, taken, options),)


def _guesses(everything: tuple[int, ...], op: str) -> tuple[AttentionForm, ...]:
    """Forms of compiled functions, which often have no signature."""
    if not takes_scores(op):
        return (AttentionForm(everything, {}, {}),)
    canonical = {name: name for name in ATTENTION_OPTIONS}
    of_torch = {"scale": "scale", "causal": "is_causal", "mask": "attn_mask", "gqa": "enable_gqa"}
    return tuple(AttentionForm(everything, {}, names) for names in (canonical, of_torch, {}))


def _options(named: Sequence[Parameter], op: str, *, open_ended: bool) -> dict[str, str]:
    if not takes_scores(op):
        return {}
    # A bias without a default is more than an additive mask by another name.
    present = {p.name for p in named if p.name not in _OPTIONS["bias"] or p.default is not Parameter.empty}
    found = {}
    for option, names in _OPTIONS.items():
        name = next((n for n in names if n in present), None)
        if name is not None:
            found[option] = name
        elif open_ended and option in ATTENTION_OPTIONS:
            found[option] = option
    return found


def _operands(others: Sequence[Parameter], op: str) -> dict[str, int] | None:
    """Which parameters the operands are: by their names where those say so, else in order."""
    wanted = OPERANDS[op]
    by_alias: dict[str, int] = {}
    for k, operand in enumerate(wanted):
        names = [p.name for p in others if p.name.lower() in _ALIASES.get(operand, frozenset({operand}))]
        if len(names) == 1:
            by_alias[names[0]] = k
    if len(by_alias) == len(wanted):
        return by_alias
    places = [p.name for p in others if p.kind in _POSITIONAL][: len(wanted)]
    return {name: k for k, name in enumerate(places)} if len(places) == len(wanted) else None


def _form(others: Sequence[Parameter], taken: Mapping[str, int], options: Mapping[str, str]) -> AttentionForm:
    """By position what leads and may go so, whose names a decorator may hide; the rest by name."""
    order: list[int] = []
    named: dict[int, str] = {}
    leading = True
    for parameter in others:
        k = taken.get(parameter.name)
        if k is None:
            leading = False
        elif leading and parameter.kind in _POSITIONAL:
            order.append(k)
        else:
            leading = False
            named[k] = parameter.name
    return AttentionForm(tuple(order), named, options)
