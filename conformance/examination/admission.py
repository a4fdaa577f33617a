"""Which witnesses can be replayed: cases that their clause may have, of calls that an op may get.

A file may say anything, and what no clause would ever ask must neither pass nor be blamed on the subject.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from types import MappingProxyType

import numpy as np

from softcert.backends import Description
from softcert.backends.ops import (
    ATTENTION_OPS,
    INTEGERS,
    OF_TREES,
    ONE_A_ROW,
    OPERANDS,
    ROW_OPTIONS,
    has_axis,
    has_tree,
    operand_dtype,
    options_known,
    without_axis,
)
from softcert.backends.rules import shown
from softcert.backends.types import Call
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.examination.admission_attention import operands_complaint, options_complaint
from softcert.conformance.inputs.growing import call_of
from softcert.conformance.judging.policy import ignored_rows
from softcert.conformance.judging.shapes import summed_length
from softcert.conformance.model import RequestError, Witness
from softcert.conformance.spec import Clause, Seedling
from softcert.reference import DomainError
from softcert.reference.trees import checked_tree

#: Far above what any clause repeats; a file could ask for more than anyone waits for.
MOST_REPEATS = 100_000
#: Seeds of samplers; shared generators take no larger ones, rows drawn one by one have 2^16 for each.
MOST_SEED = (1 << 16) - 1
#: What growing and judging raise over facts that the clause itself would never have written.
MISFITS = (LookupError, TypeError, ValueError, ArithmeticError)
#: So many seedlings show every way in which a clause makes its calls.
_ENOUGH = 40
#: Keywords of some op of rows.
_OPTIONS = frozenset(chain.from_iterable(ROW_OPTIONS.values()))


def clause_of(witness: Witness) -> Clause:
    """Clause of a witness, of which the witness is a possible case.

    Raises
    ------
    RequestError : there is no such clause, or it would never make such calls.
    """
    clause = next((c for c in CLAUSES if c.id == witness.clause), None)
    if clause is None:
        raise RequestError(
            f"the witness speaks of clause {witness.clause!r}, which this version does not have"
        )
    for spoken, named in ((clause.ops, witness.op), (clause.dtypes, witness.dtype)):
        if named not in spoken:
            raise RequestError(f"the witness is no case of {clause.id}, which does not speak of {named}")
    complaint = next(_complaints(witness), None)
    if complaint is not None:
        raise RequestError(f"the witness is no case of {clause.id}: {complaint}")
    return clause


def require_taken(witness: Witness, described: Description) -> None:
    """Refuse a witness whose calls a subject was never said to take.

    Raises
    ------
    RequestError : the subject lacks an op or the inverse temperature.
    """
    calls = witness.trial.calls
    missing = sorted({call.op for call in calls} - set(described.ops))
    if missing:
        raise RequestError(f"{described.name} has no op {missing[0]!r}, which the witness calls")
    if any("beta" in call.params for call in calls) and not described.beta:
        raise RequestError(f"{described.name} takes no beta, which the witness gives")
    for call in calls:
        known = options_known(call.op)
        # What a subject draws without a seed is fixed by other means.
        given = {*call.params, *(() if call.mask is None else ("mask",))} & set(known) - {"beta", "seed"}
        lacking = sorted(given - set(described.options.get(call.op, known)))
        if lacking:
            raise RequestError(f"{described.name} takes no {lacking[0]}, which the witness gives")


def require_fitting(witness: Witness, clause: Clause, context: Context) -> None:
    """Refuse a witness of calls that the clause would not make together, or of nothing.

    Raises
    ------
    RequestError : the calls are not those of a trial, or an operand is empty where no input of the clause is.
    """
    calls = witness.trial.calls
    asked = replace(context, beta=any("beta" in call.params for call in calls))
    with np.errstate(all="ignore"):
        if tuple(call.op for call in calls) not in _possible(witness, clause, asked):
            raise RequestError(unrelated(clause))
        for call in calls:
            x = call.operands[0]
            if not x.size and (summed_length(call) == 0) not in _empty_ways(clause, asked):
                raise RequestError(
                    f"the witness is no case of {clause.id}: an array of shape {x.shape} has no elements"
                )


def unrelated(clause: Clause) -> str:
    """One sentence for calls that a clause would not make together."""
    return f"the witness is no case of {clause.id}: its calls are not related as that clause relates them"


def _possible(witness: Witness, clause: Clause, context: Context) -> set[tuple[str, ...]]:
    """Ops of the calls that the clause makes of the witness's first one; of any, where that is unfit."""
    seedling = _seedling_of(witness.trial.calls[0], witness)
    try:
        trial = clause.grow(seedling, context)
    except MISFITS as error:
        raise RequestError(unrelated(clause)) from error
    if trial is not None:
        return {tuple(call.op for call in trial.calls)}
    # A call that is itself grown, scaled up for instance, need not be fit to grow from.
    grown = (clause.grow(seedling, context) for seedling in islice(clause.directed(context), _ENOUGH))
    return {tuple(call.op for call in trial.calls) for trial in grown if trial is not None}


def _seedling_of(call: Call, witness: Witness) -> Seedling:
    """The seedling of which a clause would make the call."""
    params = call.params
    return Seedling(
        call.operands,
        beta=float(params.get("beta", 1.0)),
        options={
            name: params[name] for name in ROW_OPTIONS.get(call.op, ()) if name in params and name != "beta"
        },
        axis=int(params.get("axis", -1)),
        layout=call.layout,
        family=witness.trial.family,
        extra=witness.trial.relation,
        mask=call.mask,
        scale=float(params["scale"]) if "scale" in params else None,
        causal=bool(params.get("causal", False)),
    )


def _empty_ways(clause: Clause, context: Context) -> set[bool]:
    """For each empty array that a clause asks about, whether it is the summed axis that is empty."""
    empty = [seedling for seedling in clause.directed(context) if not seedling.size]
    return {summed_length(call_of(seedling, context)) == 0 for seedling in empty}


def complaint_of(call: Call, dtype: str) -> str:
    """What makes a call one that no clause makes at `dtype`, to follow the call's name; empty if nothing."""
    # One by one: later checks rest on what the earlier ones found.
    of_op = _OF_ATTENTION if call.op in ATTENTION_OPS else _OF_ROWS
    return next(filter(None, (check(call, dtype) for check in (_op, *of_op, _repeat))), "")


def _complaints(witness: Witness) -> Iterator[str]:
    for place, call in enumerate(witness.trial.calls):
        complaint = complaint_of(call, witness.dtype)
        if complaint:
            yield f"call {place} {complaint}"
            return


def _op(call: Call, _dtype: str) -> str:
    return "" if call.op in OPERANDS else f"is of {call.op!r}, which is no op"


def _operands(call: Call, dtype: str) -> str:
    wanted, given = len(OPERANDS[call.op]), call.operands
    if len(given) != wanted:
        return f"gives {len(given)} operands to {call.op}, which takes {wanted}"
    names = OPERANDS[call.op]
    if any(a.dtype.name != operand_dtype(name, dtype) for name, a in zip(names, given, strict=True)):
        return f"has operands that are not of {dtype}"
    if len({a.shape for name, a in zip(names, given, strict=True) if has_axis(name)}) > 1:
        return "has operands of different shapes"
    return "" if given[0].ndim else "has an operand without an axis"


def _axis(call: Call, _dtype: str) -> str:
    axis, dimensions = call.params.get("axis"), call.operands[0].ndim
    if type(axis) is not int or not -dimensions <= axis < dimensions:
        return f"has axis={shown(axis)}, and its operands have {dimensions} dimension{'s' * (dimensions > 1)}"
    return ""


def _one_a_row(call: Call, _dtype: str) -> str:
    """Of what there is one a row: as many as there are rows, and targets that are classes or ignored."""
    first, axis = call.operands[0], int(call.params["axis"])
    for name, array in zip(OPERANDS[call.op], call.operands, strict=True):
        if name not in ONE_A_ROW:
            continue
        if array.shape != without_axis(first.shape, axis):
            return f"has a {name} of shape {array.shape} for operands of shape {first.shape}"
        classes = first.shape[axis] + has_tree(call.op)
        if name in INTEGERS and bool((((array < 0) | (array >= classes)) & ~ignored_rows(call)).any()):
            return f"has a {name} that is no class"
    return ""


def _tree(call: Call, _dtype: str) -> str:
    """Of an op of a tree: paths that make one, whose nodes the first operand has the scores of."""
    if not has_tree(call.op):
        return ""
    try:
        tree = checked_tree(*call.operands[-len(OF_TREES) :])
    except DomainError as error:
        return f"has no tree: {error}"
    nodes = call.operands[0].shape[int(call.params["axis"])]
    return "" if tree.classes == nodes + 1 else f"has {nodes} scores for a tree of {tree.classes} classes"


def _options(call: Call, _dtype: str) -> str:
    unknown = sorted(set(call.params) - {"axis", *_OPTIONS})
    if unknown:
        return f"gives {unknown[0]!r}, which no op takes"
    given = {name: value for name, value in call.params.items() if name != "axis"}
    taken = ROW_OPTIONS.get(call.op, {})
    for name, value in given.items():
        if name not in taken:
            return f"gives {name} to {call.op}, which takes none"
        if not _is_finite(value):
            return f"has {name}={shown(value)}, which is not finite"
        if not _RANGES.get(name, _anything)(value):
            return f"has {name}={shown(value)}, which is out of its range"
    return ""


def _anything(_value: float) -> bool:
    return True


#: What options may be; orders of backends are above 1.
_RANGES: Mapping[str, Callable[[float], bool]] = MappingProxyType(
    {
        "alpha": lambda value: value > 1.0,
        "label_smoothing": lambda value: 0.0 <= value <= 1.0,
        "z_loss": lambda value: value >= 0.0,
        "ignore_index": lambda value: type(value) is int,
        "tau": lambda value: value > 0.0,
        "hard": lambda value: type(value) is int and value in (0, 1),
        "seed": lambda value: type(value) is int and 0 <= value <= MOST_SEED,
    }
)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond binary64
        return False


def _repeat(call: Call, _dtype: str) -> str:
    if call.repeat > MOST_REPEATS:
        return f"is repeated {call.repeat} times, and at most {MOST_REPEATS} are made"
    return ""


#: What is checked of a call's operands and keywords, by the family of its op.
_OF_ROWS = (_operands, _axis, _options, _tree, _one_a_row)
_OF_ATTENTION = (operands_complaint, options_complaint)
