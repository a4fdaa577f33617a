"""The estimate of error / bound is never below it, and next to it, whatever the contract."""

from __future__ import annotations

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance.context import Context
from softcert.conformance.proofs import DOMAINS
from softcert.conformance.proofs.screen import largest_ratios
from softcert.reference import format_of
from softcert.reference.fast.short_rows import SHORT_OPS, short_row_errors

#: Where the estimate is coarser: wide errors of weights, and bounds as small as binary64's own errors.
COARSE = {"narrow sums", "binary64", "binary64, any form"}
RNG = np.random.default_rng(23)
CONTRACTS = {
    "nothing said": Contract(),
    "division": Contract(form="division"),
    "exact exponential": Contract(form="division", exp_ulp=0.5, compute="float32"),
    "wide": Contract(compute="float32"),
    "flushing": Contract(compute="float32", form="division", flush_subnormals=True),
    "flushing, any form": Contract(flush_subnormals=True),
    "binary64": Contract(compute="float64", accumulator="float64", form="division", exp_ulp=1.0),
    "binary64, any form": Contract(compute="float64", accumulator="float64"),
    "narrow sums": Contract(accumulator="bfloat16", exp_ulp=8.0),
}


def rows(domain, dtype):
    x = DOMAINS[domain].make(RNG.integers(0, DOMAINS[domain].size(dtype), 1200), dtype)
    near = x.view(f"u{x.dtype.itemsize}").copy()
    near[::3, 1] = near[::3, 0] + RNG.integers(0, 5, len(near[::3])).astype(near.dtype)
    moderate = (RNG.normal(size=(300, x.shape[1])) * 5).astype(x.dtype)
    x = np.concatenate([x, near.view(x.dtype), moderate])
    with np.errstate(invalid="ignore"):
        return x[np.isfinite(x.astype(np.float64)).all(axis=1)]


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("op", SHORT_OPS)
@pytest.mark.parametrize(
    ("domain", "dtype"),
    [("pairs", "float16"), ("pairs", "bfloat16"), ("single", "float32"), ("triples", "float16")],
)
def test_estimates_are_above_and_near(domain, dtype, op, contract):
    context = Context(op, dtype, CONTRACTS[contract])
    x = rows(domain, dtype)
    call = Call(op, (x,))
    with np.errstate(all="ignore"):
        truth = context.truth(call)
        bound = context.bound_ulp(call, truth).reshape(len(x), -1)
        answers = (truth.round(dtype).astype(np.float64) * 1.1).reshape(len(x), -1)
        errors = short_row_errors(op, x.astype(np.float64), answers, format_of(dtype))
        estimate = largest_ratios(op, x.astype(np.float64), errors, context.arithmetic)
        above = estimate / (errors.upper / bound)
    above = above[np.isfinite(above)]
    assert above.size > 1000
    assert above.min() >= 1.0
    assert np.percentile(above, 99) < 1.0 + (2e-2 if contract in COARSE else 1e-3)
