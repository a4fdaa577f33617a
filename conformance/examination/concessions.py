"""Which line of a contract would allow what broke a clause: often an undeclared convention, not a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.context import Context
from softcert.conformance.contract_fields import NARROW, ContractField, fields_for
from softcert.conformance.model import Finding, OracleError, Trial
from softcert.conformance.spec import Clause

#: Trials of more numbers than this are not judged anew: each field tried costs their truth again.
_LARGEST = 1 << 16


def with_concession(
    finding: Finding, clause: Clause, trial: Trial, values: tuple[Array, ...], context: Context
) -> Finding:
    """The finding, whose message also names the line of a contract that would allow it, if one would."""
    line = concession(clause, trial, values, context)
    if line is None:
        return finding
    return replace(finding, message=f"{finding.message}; a contract with {line} would allow it")


def concession(clause: Clause, trial: Trial, values: tuple[Array, ...], context: Context) -> str | None:
    """The line of a contract, the first in the table of its fields, that would allow what broke a clause.

    Parameters
    ----------
    values : results of the calls of the trial, call by call.

    Returns
    -------
    str or None
        Such as `causal = "top-left"`; None where no single line would, or the trial is a large one.
    """
    if clause.judge is None or sum(a.size for call in trial.calls for a in call.arrays) > _LARGEST:
        return None
    for name, value in _laxer(clause, context):
        other = replace(context, contract=replace(context.contract, **{name: value}))
        try:
            with np.errstate(all="ignore"):
                judged = clause.judge(trial, values, other)
        except OracleError:
            continue
        if judged.finding is None and not judged.vacuous:
            return f"{name} = {_shown(value)}"
    return None


def _laxer(clause: Clause, context: Context) -> Iterator[tuple[str, Any]]:
    """Fields that a clause speaks of, with each value but those that promise at least as much as now."""
    for field in fields_for((context.dtype,)):
        now = getattr(context.contract, field.name)
        if not _decides(field, clause, context):
            continue
        for value in field.values:
            if value != now and not field.covers(value, now) and not _unlikely(value, context.dtype):
                yield field.name, value


def _decides(field: ContractField, clause: Clause, context: Context) -> bool:
    """Whether a field decides what a clause asks of results: a convention does in every clause.

    A gradient is judged as a function of the out and lse given, so that by the other convention it has a
    value as well, though these were made by the one declared.
    """
    if field.forward:
        return context.op in field.ops
    return field.spoken_of(clause.id, context.op)


def _unlikely(value: Any, dtype: str) -> bool:
    """Whether it is a format of 16 bits that kernels for a dtype do not use: to say so would mislead."""
    return value in NARROW and value != dtype


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value}"
