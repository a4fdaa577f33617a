"""What clauses on samples read from a call: the rows that were drawn, their logits, the temperature."""

from __future__ import annotations

import numpy as np

from softcert.backends.ops import ROW_OPTIONS
from softcert.backends.types import Array, Call
from softcert.conformance.model import Judgement
from softcert.conformance.spec import rows_last


def draws_of(call: Call, value: Array) -> Array:
    """Samples or logits of a call, (rows, n)."""
    moved = rows_last(value, int(call.params["axis"]))
    return moved.reshape(-1, moved.shape[-1])


def logits_of(call: Call) -> Array:
    """The logits of the first row, which are those of all where a law is judged."""
    return np.asarray(draws_of(call, call.operands[0])[0])


def tau_of(call: Call) -> float:
    """Temperature of a call."""
    return float(call.params.get("tau", ROW_OPTIONS[call.op]["tau"]))


def unbroken(results: tuple[Array, ...]) -> Judgement:
    """Judgement of results that break nothing."""
    return Judgement(elements=sum(int(value.size) for value in results))
