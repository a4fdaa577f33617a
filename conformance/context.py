"""What a clause may ask while it judges: the certified truth of a call, its bound, the contract."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcert import reference
from softcert.backends.types import Call, Contract
from softcert.conformance import bounds
from softcert.conformance.arithmetic import Arithmetic, arithmetic
from softcert.conformance.spec import DERIVATIVE_OPS, rows_last
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
        """Bound of the error of each result of `call`, in ulps at the exact value; inf beyond binary64."""
        ulp = truth_ulp(truth, self.dtype)
        if call.op != "softmax":
            with np.errstate(over="ignore"):
                return self.absolute_bound(call) / ulp
        axis = int(call.params["axis"])
        bound = bounds.softmax_bound(self._rows(call), self.arithmetic, rows_last(ulp, axis))
        return np.moveaxis(bound, -1, axis)

    def absolute_bound(self, call: Call) -> Float:
        """Absolute bound of the error of each result of an op other than softmax."""
        axis = int(call.params["axis"])
        a = self.arithmetic
        if call.op in DERIVATIVE_OPS:
            y, dy = (rows_last(operand, axis).astype(np.float64) for operand in call.operands)
            return np.moveaxis(bounds.vjp_bound(y, dy, a), -1, axis)
        if call.op == "logsumexp":
            return bounds.logsumexp_bound(self._rows(call), a)[..., 0]
        return np.moveaxis(bounds.log_softmax_bound(self._rows(call), a), -1, axis)

    def _rows(self, call: Call) -> bounds.Rows:
        x = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
        one_pass = not self.arithmetic.division
        return bounds.rows_of(x, float(call.params.get("beta", 1.0)), any_order=one_pass)


def evaluate(call: Call, method: str = "auto") -> Enclosure:
    """Certified enclosure of the exact result of `call` by the oracle `method`."""
    function: Callable[..., Enclosure] = getattr(reference, call.op)
    return function(*call.operands, method=method, **call.params)


def truth_ulp(truth: Enclosure, dtype: str) -> Float:
    """Ulp of `dtype` at each exact value, as binary64 (subnormal binary64 ulps included)."""
    fmt = reference.format_of(dtype)
    magnitude = np.abs(truth.to_float64())
    # frexp is exact, where log2 of the float just below a power of two is the power's own.
    fraction, above = np.frexp(magnitude)
    exponent = np.where(np.isfinite(magnitude) & (magnitude > 0.0), above - 1, fmt.emin)
    exponent = np.clip(exponent, fmt.emin, fmt.emax)
    doubtful = (fraction == 0.5) & (exponent > fmt.emin)
    if doubtful.any():
        # Rounded to binary64 this is a power of two; just below it, the ulp is half as large.
        counted = np.ldexp(truth.in_ulps(dtype)[0], (exponent - fmt.precision + 1).astype(np.int64))
        exponent = exponent - (doubtful & (counted > 1.5 * magnitude))
    return np.ldexp(1.0, (exponent - fmt.precision + 1).astype(np.int64))


def expected_shape(call: Call) -> tuple[int, ...]:
    """Shape of a correct result: the operand's own, without the axis for logsumexp."""
    shape = call.operands[0].shape
    if call.op != "logsumexp":
        return shape
    axis = int(call.params["axis"]) % len(shape)
    return shape[:axis] + shape[axis + 1 :]
