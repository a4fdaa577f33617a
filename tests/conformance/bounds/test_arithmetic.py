"""The rounding units of a contract: of softmax and of attention, in every format."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import arithmetic, default_accumulator
from softcert.conformance.bounds.attention_arithmetic import (
    AttentionArithmetic,
    attention_arithmetic,
    exponent,
)
from softcert.reference import format_of

F16, BF16, F32, F64 = (format_of(name) for name in ("float16", "bfloat16", "float32", "float64"))

#: Unit roundoff, smallest subnormal and smallest normal, as powers of two.
UNITS = {
    "float64": (-53, -1074, -1022),
    "float32": (-24, -149, -126),
    "float16": (-11, -24, -14),
    "bfloat16": (-8, -133, -126),
}


@pytest.mark.parametrize("compute", [None, *UNITS])
@pytest.mark.parametrize("dtype", UNITS)
def test_each_format_brings_its_own_units(dtype, compute):
    a = arithmetic(Contract(compute=compute), dtype)
    assert (a.u_out, a.eta_out, a.lambda_out) == tuple(2.0**e for e in UNITS[dtype])
    assert (a.u_compute, a.eta_compute, a.lambda_compute) == tuple(2.0**e for e in UNITS[compute or dtype])


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("float64", "float64"), ("float32", "float32"), ("float16", "float32"), ("bfloat16", "float32")],
)
def test_sums_are_in_float32_at_least_where_nothing_is_said(dtype, wanted):
    assert default_accumulator(dtype) == wanted
    assert arithmetic(Contract(), dtype).u_sum == 2.0 ** UNITS[wanted][0]
    assert arithmetic(Contract(accumulator="float16"), dtype).u_sum == 2.0**-11


def test_errors_of_the_elementary_functions_are_counted_in_ulps():
    a = arithmetic(Contract(exp_ulp=1.5, accumulator="float64"), "float32")
    assert a.exp_error == 3.0 * 2.0**-24
    assert a.rescale_error == 5.0 * 2.0**-53
    assert arithmetic(Contract(form="division"), "float32").division
    assert not a.division


def test_what_underflow_costs():
    a = arithmetic(Contract(compute="float32"), "float16")
    assert a.underflow == 3.5 * 2.0**-149 + 2.0**-25
    assert a.underflow_product == 2.0**-149 + 2.0**-24
    flushed = arithmetic(Contract(compute="float32", flush_subnormals=True), "float16")
    assert flushed.underflow == 2.0**-14 * (1 + 2.0**-22)
    assert flushed.underflow_product == 2.0**-14
    assert (
        arithmetic(Contract(compute="float16", flush_subnormals=True), "float32").underflow_product
        == 2.0**-14
    )


# --- attention ---


def test_attention_computes_in_its_accumulator_and_holds_weights_in_the_input():
    assert attention_arithmetic(Contract(), "float16") == AttentionArithmetic(
        inputs=F16,
        accumulator=F32,
        compute=F32,
        weights=F16,
        scores=F32,
        scaled=F32,
        result=F16,
        lse=F32,
        exp_ulp=3.0,
        flush=False,
        block=1,
        contiguous=True,
        group=16,
        lazy_threshold=8.0,
        merges=1,
        gradient_block=None,
        fused=False,
        unfused=True,
    )


def test_what_a_contract_and_a_kernel_declare_of_attention_is_taken():
    contract = Contract(accumulator="float64", compute="bfloat16", exp_ulp=2.0, flush_subnormals=True)
    a = attention_arithmetic(
        contract, "float32", weights="float16", scores="float32", scaled="float64", block=4
    )
    assert (a.accumulator, a.compute, a.weights, a.scores, a.scaled) == (F64, BF16, F16, F32, F64)
    assert (a.inputs, a.result, a.lse) == (F32, F32, F32)
    assert (a.exp_ulp, a.flush, a.block) == (2.0, True, 4)
    assert attention_arithmetic(Contract(compute="float16"), "float32").scores == F16


@pytest.mark.parametrize(
    ("dtype", "accumulator", "group"),
    [
        ("float16", None, 16),
        ("bfloat16", None, 16),
        ("float32", None, 1),
        ("float64", None, 1),
        ("float16", "float16", 1),
        ("float32", "float64", 16),
        ("bfloat16", "float16", 1),
    ],
)
def test_a_matrix_unit_adds_groups_where_products_are_exact(dtype, accumulator, group):
    assert attention_arithmetic(Contract(accumulator=accumulator), dtype).group == group


def test_a_sum_counts_whole_groups():
    a = attention_arithmetic(Contract(), "float16")
    assert [a.sum_length(n) for n in (0, 1, 15, 16, 17, 33)] == [0, 16, 16, 16, 32, 48]
    assert [replace(a, group=1).sum_length(n) for n in (0, 1, 17)] == [0, 1, 17]


def test_exponents_are_logarithms_of_the_worst_factor():
    a = attention_arithmetic(Contract(), "float16", scores="float16")
    assert exponent(F16) == -math.log1p(-(2.0**-11))
    assert (a.u, a.u_sum) == (exponent(F32), exponent(F32))
    assert a.exp_exponent == -math.log1p(-6.0 * 2.0**-24)
    assert (a.u_scores, a.u_scaled) == (exponent(F16), 0.0)
    assert replace(a, scores=F32, scaled=F16).u_scores == 0.0
    assert replace(a, scaled=F16).u_scaled == exponent(F16)
    assert replace(a, scores=F64).u_scores == 0.0
    assert a.lazy == 8.0 * math.log(2.0)


@pytest.mark.parametrize(("ulps", "infinite"), [(2.0**23 - 1, False), (2.0**23, True), (2.0**24, True)])
def test_an_exponential_that_may_lose_everything_has_no_exponent(ulps, infinite):
    a = attention_arithmetic(Contract(exp_ulp=ulps), "float32")
    assert math.isinf(a.exp_exponent) is infinite
    assert a.exp_exponent > 0.0


def test_what_underflow_costs_attention():
    a = attention_arithmetic(Contract(), "float16")
    assert a.exp_underflow == 3.5 * 2.0**-149
    assert a.cast_underflow == 2.0**-25
    assert a.sum_underflow == 2.0**-150
    # half the smallest number of binary64 is none
    assert attention_arithmetic(Contract(), "float64").sum_underflow == 2.0**-1074
    assert attention_arithmetic(Contract(), "float64").exp_underflow == 4 * 2.0**-1074
    flushed = replace(a, flush=True)
    assert flushed.exp_underflow == flushed.sum_underflow == 2.0**-126
    assert flushed.cast_underflow == 2.0**-14


@pytest.mark.parametrize(
    ("promises", "wanted"),
    [
        ({}, True),
        ({"compute": "float64"}, True),
        ({"compute": "bfloat16"}, False),
        ({"accumulator": "float64"}, True),
        ({"compute": "float32", "accumulator": "float64"}, False),
        ({"form": "division"}, False),
        ({"form": "division", "compute": "bfloat16"}, False),
    ],
)
def test_weights_may_be_made_from_an_lse_of_enough_digits(promises, wanted):
    assert attention_arithmetic(Contract(**promises), "float32").through_lse is wanted
