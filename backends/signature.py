"""How a function that was not written for softcert is called, read from its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from itertools import chain
from types import MappingProxyType
from typing import Any

from softcert.backends.ops import OF_TREES, OPERANDS, ROW_OPTIONS
from softcert.errors import SubjectError

AXIS_NAMES = ("axis", "dim")
#: Other names of operands, for functions that take them in another order.
_ALIASES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "x": frozenset({"x", "logits", "input", "scores", "z"}),
        "target": frozenset({"target", "targets", "label", "labels", "t", "y_true", "leaf", "leaves"}),
        "s": frozenset({"s", "scores", "x", "logits"}),
        "dlogp": frozenset({"dlogp", "dloss", "grad", "grad_output", "dout", "cotangent", "ct", "dy"}),
        **{name: frozenset({name, name.removeprefix("path_")}) for name in OF_TREES},
        "dloss": frozenset({"dloss", "grad", "grad_output", "dout", "cotangent", "ct", "dy"}),
        "y": frozenset({"y", "output", "p", "probs", "probabilities"}),
        "dy": frozenset({"dy", "grad", "grad_output", "dout", "cotangent", "ct"}),
        "dx": frozenset({"dx", "tangent", "direction", "xdot"}),
    }
)
#: Names that are options of some op, and an operand of none.
_OPTION_NAMES = frozenset(chain.from_iterable(ROW_OPTIONS.values()))
#: Other names of options.
_OPTION_ALIASES: Mapping[str, str] = MappingProxyType({"temperature": "tau"})
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

#: What an argument is: the operand of that place, or "axis", "out", "default", "reduction" or an option of
#: the op.
Role = int | str


@dataclass(frozen=True)
class Form:
    """How a function is called.

    Attributes
    ----------
    positional : the roles of the arguments that go by position, in order.
    keywords : name and role of those that go by name.
    defaults : what a positional-only parameter that has no role is given, by place.
    """

    positional: tuple[Role, ...] = (0,)
    keywords: tuple[tuple[str, Role], ...] = ()
    defaults: tuple[Any, ...] = ()

    def has(self, role: Role) -> bool:
        """Whether an argument of that role is given."""
        return role in self.positional or any(role == r for _, r in self.keywords)

    def arguments(self, given: Mapping[Role, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of a call."""
        spare = iter(self.defaults)
        by_place = [next(spare) if role == "default" else given[role] for role in self.positional]
        return by_place, {name: given[role] for name, role in self.keywords}


def read_forms(function: Callable[..., Any], op: str) -> tuple[Form, ...]:
    """Forms in which a function might be called, the likeliest first; one if its signature says.

    Raises
    ------
    SubjectError : the signature cannot be the op's, and the message says why.
    """
    operands = tuple(range(len(OPERANDS[op])))
    guesses = tuple(Form(operands, ((name, "axis"),)) for name in AXIS_NAMES)
    if type(function).__name__ in {"ufunc", "GUFunc", "DUFunc"}:
        return (Form(operands), *guesses)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        # Compiled functions often have no signature.
        return (*guesses, Form(operands))
    kinds = {p.kind for p in parameters}
    named = [p for p in parameters if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    variadic = Parameter.VAR_POSITIONAL in kinds
    roles = _roles(named, op, variadic=variadic)
    missing = [k for k in operands if k not in roles.values()]
    form = _form(named, roles, missing)
    if not form.has("axis") and Parameter.VAR_KEYWORD in kinds:
        extended = (Form(form.positional, (*form.keywords, (n, "axis")), form.defaults) for n in AXIS_NAMES)
        return (*extended, form)
    return (form,)


def _roles(named: Sequence[Parameter], op: str, *, variadic: bool) -> dict[str, Role]:
    """Role of each parameter that has one."""
    roles: dict[str, Role] = {}
    axis = next((name for name in AXIS_NAMES if name in {p.name for p in named}), None)
    if axis is not None:
        roles[axis] = "axis"
    options = (*ROW_OPTIONS.get(op, ()), *_reductions(op))
    meant = {p.name: _OPTION_ALIASES.get(p.name, p.name) for p in named}
    roles |= {name: option for name, option in meant.items() if option in options}
    if any(p.name == "out" and p.default is Parameter.empty for p in named):
        roles["out"] = "out"
    others = [p for p in named if p.name not in roles and p.name not in (*AXIS_NAMES, *_OPTION_NAMES)]
    roles |= _operands(others, op, variadic=variadic)
    for parameter in named:
        if parameter.default is Parameter.empty and parameter.name not in roles:
            raise SubjectError(f"it requires an argument {parameter.name!r} that {op} does not have")
    return roles


def _reductions(op: str) -> tuple[str, ...]:
    """What losses call the keyword by which they are told to give each row its own, as "none"."""
    return ("reduction",) if "target" in OPERANDS[op] else ()


def _operands(others: Sequence[Parameter], op: str, *, variadic: bool) -> dict[str, Role]:
    """Which parameters the operands are: by their names where those say so, else in order."""
    wanted = OPERANDS[op]
    if len(wanted) > 1:
        known = [[p.name for p in others if p.name in _ALIASES[operand]] for operand in wanted]
        if all(len(names) == 1 for names in known):
            return {names[0]: k for k, names in enumerate(known)}
    by_place = [p.name for p in others if p.kind in _POSITIONAL]
    by_name = [p.name for p in others if p.kind is Parameter.KEYWORD_ONLY]
    found = (by_place if variadic else by_place + by_name)[: len(wanted)]
    if len(found) < len(wanted) and not variadic:
        operands = f"the operand{'s' * (len(wanted) > 1)} ({', '.join(wanted)})"
        raise SubjectError(f"its signature has no place for {operands} of {op}")
    return {name: k for k, name in enumerate(found)}


def _form(named: Sequence[Parameter], roles: Mapping[str, Role], missing: Sequence[int]) -> Form:
    """By position what must be, and leading operands, whose names a decorator may hide; the rest by name."""
    positional: list[Role] = []
    keywords: list[tuple[str, Role]] = []
    defaults: list[Any] = []
    last = max((i for i, p in enumerate(named) if _only_by_place(p) and p.name in roles), default=-1)
    leading = True
    for i, parameter in enumerate(named):
        role = roles.get(parameter.name)
        if i <= last and _only_by_place(parameter):
            positional.append("default" if role is None else role)
            defaults.extend([parameter.default] if role is None else [])
        elif role is None:
            leading = False
        elif leading and isinstance(role, int) and parameter.kind in _POSITIONAL:
            positional.append(role)
        else:
            leading = False
            keywords.append((parameter.name, role))
    return Form((*positional, *missing), tuple(keywords), tuple(defaults))


def _only_by_place(parameter: Parameter) -> bool:
    return parameter.kind is Parameter.POSITIONAL_ONLY
