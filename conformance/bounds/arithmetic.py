"""The rounding units that a contract fixes for one dtype."""

from __future__ import annotations

from dataclasses import dataclass

from softcert.backends.contract import Contract
from softcert.reference import format_of


@dataclass(frozen=True)
class Arithmetic:
    """Unit roundoffs and underflow thresholds of a contract at one dtype.

    Attributes
    ----------
    u_out, eta_out, lambda_out : unit roundoff, smallest subnormal, smallest normal of the result.
    u_compute, eta_compute : of the element-wise steps.
    u_sum : unit roundoff of the accumulator.
    u_offset : of what an offset common to a row enters besides x - max: lse, and logits of a changed base.
        Nobody holds those in 16 bits who sums in 32, unless he declares `compute`.
    exp_ulp : error of exp and log in ulps of the format they are computed in.
    division : whether the contract promises exp(x - max) / sum.
    flush : whether subnormal results may become zero.
    """

    u_out: float
    eta_out: float
    lambda_out: float
    u_compute: float
    eta_compute: float
    lambda_compute: float
    u_sum: float
    u_offset: float
    exp_ulp: float
    division: bool
    flush: bool

    @property
    def exp_error(self) -> float:
        """Relative error of one exponential: an ulp is at most 2u of the value."""
        return 2.0 * self.exp_ulp * self.u_compute

    @property
    def rescale_error(self) -> float:
        """Relative error of one online rescale, exp and product in the accumulator's format."""
        return 2.0 * (self.exp_ulp + 1.0) * self.u_sum

    @property
    def underflow(self) -> float:
        """Absolute error that one weight of at most 1 may suffer by underflow.

        Gradual underflow costs the exponential's ulps, counted at the smallest subnormal, and half of one
        for the rounding of the result; flushing costs all that lies below the smallest normal.
        """
        if self.flush:
            return max(self.lambda_out, self.lambda_compute) * (1.0 + 4.0 * self.u_compute)
        return (self.exp_ulp + 0.5) * self.eta_compute + 0.5 * self.eta_out

    @property
    def underflow_product(self) -> float:
        """Absolute error that underflow may cost one product of a derivative and its rounding."""
        if self.flush:
            return max(self.lambda_out, self.lambda_compute)
        return self.eta_compute + self.eta_out


def default_accumulator(dtype: str) -> str:
    """Format that sums are promised in when a contract says nothing: float32 for 16-bit inputs."""
    return dtype if dtype in {"float64", "float32"} else "float32"


def arithmetic(contract: Contract, dtype: str) -> Arithmetic:
    """Return the arithmetic that `contract` promises for inputs of `dtype`."""
    out = format_of(dtype)
    compute = format_of(contract.compute or dtype)
    accumulator = format_of(contract.accumulator or default_accumulator(dtype))
    finest = max(compute.precision, accumulator.precision)
    return Arithmetic(
        u_out=_unit_roundoff(out.precision),
        eta_out=2.0 ** (out.emin - out.precision + 1),
        lambda_out=2.0**out.emin,
        u_compute=_unit_roundoff(compute.precision),
        eta_compute=2.0 ** (compute.emin - compute.precision + 1),
        lambda_compute=2.0**compute.emin,
        u_sum=_unit_roundoff(accumulator.precision),
        u_offset=_unit_roundoff(compute.precision if contract.compute else finest),
        exp_ulp=float(contract.exp_ulp),
        division=contract.form == "division",
        flush=contract.flush_subnormals,
    )


def _unit_roundoff(precision: int) -> float:
    return 2.0**-precision
