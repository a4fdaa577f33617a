"""The arithmetic that an attention kernel may use, which its error bounds are functions of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import default_accumulator
from softcert.reference import FloatFormat, format_of

#: Keys or features that a matrix unit adds at once; the bounds count whole groups (see `sum_length`).
MATRIX_UNIT = 16
#: The smallest positive number of binary64, in which bounds are evaluated.
_SMALLEST = 2.0**-1074
#: Base-2 logarithm of the largest weight that a kernel with lazy rescaling holds (FlashAttention-4).
LAZY_THRESHOLD = 8.0


@dataclass(frozen=True)
class AttentionArithmetic:
    """Formats and habits of a kernel; the defaults of what is no format are the strict contract's.

    Attributes
    ----------
    inputs : format of q, k, v and of the cotangents dq, dk, dv.
    accumulator : of every sum: scores, row sums, outputs, gradients.
    compute : of the element-wise steps between them.
    weights : in which weights and dS are stored before they are multiplied by a matrix.
    scores : in which scores and dP are stored; `compute` where they are not stored at all.
    scaled : in which scaled q (and k) are stored, where the scale goes there first.
    result : of out. lse : of lse.
    exp_ulp : error of exp and log in ulps of `compute`.
    flush : subnormal results of any step may become zero.
    block : fewest keys between two rescales of a row.
    contiguous : keys are scanned forwards or backwards, in one stretch or several that are merged; if not,
        only the number of blocks limits the rescales.
    group : terms that a sum takes in at once, 1 for scalar sums.
    lazy_threshold : base-2 logarithm of the largest weight, 0 where every rise of the maximum rescales.
    merges : levels at which partial (out, lse) are merged (split-KV).
    gradient_block : queries, and keys, after which the sums of gradients are stored in `inputs`; None where
        they are only once, in the end.
    fused : the argument of exp2 is one fused multiply-add.
    through_lse : weights may be exp(score - lse), made once the lse is known, and divided by nothing.
    unfused : weights may be normalized before they are stored, and be kept for the backward pass.
    """

    inputs: FloatFormat
    accumulator: FloatFormat
    compute: FloatFormat
    weights: FloatFormat
    scores: FloatFormat
    scaled: FloatFormat
    result: FloatFormat
    lse: FloatFormat
    exp_ulp: float = 3.0
    flush: bool = False
    block: int = 1
    contiguous: bool = True
    group: int = MATRIX_UNIT
    lazy_threshold: float = LAZY_THRESHOLD
    merges: int = 1
    gradient_block: int | None = None
    fused: bool = False
    through_lse: bool = True
    unfused: bool = True

    @property
    def u_sum(self) -> float:
        """Exponent that one rounding of the accumulator may cost."""
        return exponent(self.accumulator)

    @property
    def u(self) -> float:
        """Exponent that one rounding of an element-wise step may cost."""
        return exponent(self.compute)

    @property
    def exp_exponent(self) -> float:
        """Exponent that one exponential may cost: an ulp is at most 2u of the value; infinite at 1."""
        relative = 2.0 * self.exp_ulp * self.compute.unit_roundoff
        return -math.log1p(-relative) if relative < 1.0 else math.inf

    @property
    def lazy(self) -> float:
        """Natural logarithm of the largest weight."""
        return self.lazy_threshold * math.log(2.0)

    @property
    def u_scores(self) -> float:
        """Relative error of one storing of scores narrower than `compute`."""
        return _narrowing(self.scores, self.compute)

    @property
    def u_scaled(self) -> float:
        """Relative error of one storing of scaled inputs narrower than `compute`."""
        return _narrowing(self.scaled, self.compute)

    @property
    def exp_underflow(self) -> float:
        """Absolute error of one exponential and one rounding that end below the normal numbers."""
        return self.tiny(self.compute, self.exp_ulp + 0.5)

    @property
    def cast_underflow(self) -> float:
        """Absolute error of one weight stored below the normal numbers of `weights`."""
        return self.tiny(self.weights)

    @property
    def sum_underflow(self) -> float:
        """Absolute error of one product in the accumulator's format that ends below its normal numbers."""
        return self.tiny(self.accumulator)

    def tiny(self, fmt: FloatFormat, ulps: float = 0.5) -> float:
        """Absolute error of a result below the normal numbers: so many ulps, or all of it if flushed.

        Half the smallest subnormal of binary64 is no number of binary64: whole ulps are counted there.
        """
        return fmt.min_normal if self.flush else max(ulps * fmt.eta, math.ceil(ulps) * _SMALLEST)

    def sum_length(self, terms: int) -> int:
        """Terms in whole groups: what a sum of `terms` counts as.

        A matrix unit that aligns 16 products and the accumulator to the largest of them, with two bits
        more than binary32 has, and truncates, errs by 10.5 u of the sum of their magnitudes (derived in
        docs/explanation/attention-bounds.md), less than 16 additions may.
        """
        return -(-terms // self.group) * self.group


def exponent(fmt: FloatFormat) -> float:
    """Logarithm of the factor that one rounding to `fmt` may be: -log(1 - u), a little above u."""
    return -math.log1p(-fmt.unit_roundoff)


def _narrowing(fmt: FloatFormat, compute: FloatFormat) -> float:
    return exponent(fmt) if fmt.precision < compute.precision else 0.0


def attention_arithmetic(
    contract: Contract,
    dtype: str,
    *,
    weights: str | None = None,
    scores: str | None = None,
    scaled: str | None = None,
    block: int = 1,
) -> AttentionArithmetic:
    """Return the arithmetic that `contract` promises of attention on inputs of `dtype`.

    Parameters
    ----------
    weights : format in which attention weights are held; None is the input's own.
    scores, scaled : formats in which scores and scaled inputs are stored; None is that of the steps.
    block : fewest keys between two rescales.

    Notes
    -----
    Unlike softmax's, attention's element-wise steps are promised in the accumulator's format where the
    contract says nothing: every kernel known here exponentiates what its accumulator holds. lse comes in
    float32 for 16-bit inputs, else in the input's format. Matrix units that add otherwise than by the
    standard model take narrow inputs, whose products the accumulator holds exactly.
    """
    given = format_of(dtype)
    accumulator = format_of(contract.accumulator or default_accumulator(dtype))
    compute = format_of(contract.compute) if contract.compute else accumulator
    return AttentionArithmetic(
        inputs=given,
        accumulator=accumulator,
        compute=compute,
        weights=format_of(weights) if weights else given,
        scores=format_of(scores) if scores else compute,
        scaled=format_of(scaled) if scaled else compute,
        result=given,
        lse=format_of(default_accumulator(dtype)),
        exp_ulp=contract.exp_ulp,
        flush=contract.flush_subnormals,
        # an lse of fewer digits than its own format has would be no way to make weights
        through_lse=contract.form != "division" and compute.precision >= accumulator.precision,
        block=block,
        group=MATRIX_UNIT if 2 * given.precision <= accumulator.precision else 1,
    )


__all__ = ["AttentionArithmetic", "attention_arithmetic", "exponent"]
