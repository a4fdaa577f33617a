"""What a clause may ask while it judges: the certified truth of a call, its bound, the contract."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcert import reference
from softcert.backends.types import Array, Call, Contract
from softcert.conformance import bounds
from softcert.conformance.arithmetic import Arithmetic, arithmetic
from softcert.conformance.spec import DERIVATIVE_OPS, FORWARD_OPS, rows_last
from softcert.reference import Enclosure

Float = NDArray[np.float64]

_REMEMBERED = 64


@dataclass
class Context:
    """The subject's promises at one op and dtype, and a small memory of certified truths.

    Attributes
    ----------
    op, dtype : what is being examined.
    contract : the subject's promises.
    beta : whether its softmax takes an inverse temperature.
    ops : every op that the subject has.
    thorough : the profile's effort, a multiple of the quick profile's.
    """

    op: str
    dtype: str
    contract: Contract
    beta: bool = False
    ops: tuple[str, ...] = ()
    thorough: float = 1.0
    _truths: OrderedDict[tuple[Any, ...], Enclosure] = field(default_factory=OrderedDict)

    @property
    def arithmetic(self) -> Arithmetic:
        """Rounding units that the contract fixes for this dtype."""
        return arithmetic(self.contract, self.dtype)

    def truth(self, call: Call) -> Enclosure:
        """Certified enclosure of the exact result of `call`."""
        key = (call.op, *sorted(call.params.items()), *((a.shape, a.tobytes()) for a in call.operands))
        if key in self._truths:
            self._truths.move_to_end(key)
            return self._truths[key]
        truth = evaluate(call)
        self._truths[key] = truth
        if len(self._truths) > _REMEMBERED:
            self._truths.popitem(last=False)
        return truth

    def bound_ulp(self, call: Call, truth: Enclosure) -> Float:
        """Bound of the error of each result of `call`, in ulps at the exact value."""
        axis = int(call.params["axis"])
        operands = [rows_last(a, axis).astype(np.float64) for a in call.operands]
        ulp = truth_ulp(truth, self.dtype)
        a = self.arithmetic
        if call.op in DERIVATIVE_OPS:
            absolute = np.moveaxis(bounds.vjp_bound(operands[0], operands[1], a), -1, axis)
            return in_ulps(absolute, ulp)
        rows = bounds.rows_of(operands[0], float(call.params.get("beta", 1.0)), any_order=not a.division)
        return _FORWARD_BOUNDS[call.op](rows, a, truth, ulp, axis, self.dtype)


def evaluate(call: Call, method: str = "auto") -> Enclosure:
    """Certified enclosure of the exact result of `call` by the oracle `method`."""
    function: Callable[..., Enclosure] = getattr(reference, call.op)
    return function(*call.operands, method=method, **call.params)


def truth_ulp(truth: Enclosure, dtype: str) -> Float:
    """Ulp of `dtype` at each exact value, as binary64 (subnormal binary64 ulps included)."""
    fmt = reference.format_of(dtype)
    magnitude = np.abs(truth.to_float64())
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log2(magnitude))
    exponent = np.where(np.isfinite(exponent), exponent, fmt.emin)
    exponent = np.clip(exponent, fmt.emin, fmt.emax)
    return np.ldexp(1.0, (exponent - fmt.precision + 1).astype(np.int64))


def in_ulps(absolute: Float, ulp: Float) -> Float:
    """Absolute bounds counted in ulps; a bound beyond binary64 is infinite."""
    with np.errstate(over="ignore"):
        return absolute / ulp


def _softmax(rows: bounds.Rows, a: Arithmetic, truth: Enclosure, ulp: Float, axis: int, dtype: str) -> Float:
    ulps = rows_last(truth.in_ulps(dtype)[1], axis)
    return np.moveaxis(bounds.softmax_bound(rows, a, ulps, rows_last(ulp, axis)), -1, axis)


def _log_softmax(
    rows: bounds.Rows, a: Arithmetic, _truth: Enclosure, ulp: Float, axis: int, _dtype: str
) -> Float:
    return in_ulps(np.moveaxis(bounds.log_softmax_bound(rows, a), -1, axis), ulp)


def _logsumexp(
    rows: bounds.Rows, a: Arithmetic, _truth: Enclosure, ulp: Float, _axis: int, _dtype: str
) -> Float:
    return in_ulps(bounds.logsumexp_bound(rows, a)[..., 0], ulp)


_FORWARD_BOUNDS: dict[str, Callable[..., Float]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
}


def expected_shape(call: Call) -> tuple[int, ...]:
    """Shape of a correct result: the operand's own, without the axis for logsumexp."""
    shape = call.operands[0].shape
    if call.op != "logsumexp":
        return shape
    axis = int(call.params["axis"]) % len(shape)
    return shape[:axis] + shape[axis + 1 :]


def is_forward(call: Call) -> bool:
    """Whether the call takes logits."""
    return call.op in FORWARD_OPS
