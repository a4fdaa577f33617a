"""The tightest contract: it is met, nothing tighter is, and what no contract allows is told."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from softcert import Backend, Contract, check
from softcert.conformance.contract_fields import at_least_as_strict, exp_field, fields_for, laxest
from softcert.conformance.inference import contract_toml, infer
from softcert.conformance.model import RequestError

ASKED = {"ops": "softmax", "dtypes": "float32"}


def rows(x):
    terms = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return terms / np.sum(terms, axis=-1, keepdims=True)


def flushing(x):
    y = rows(x)
    return np.where(np.abs(y) < np.finfo(x.dtype).tiny, x.dtype.type(0), y)


def in_half(x):
    gaps = np.clip(x - np.max(x, axis=-1, keepdims=True), -60000, 0).astype(np.float16)
    terms = np.exp(gaps).astype(x.dtype)
    return terms / np.sum(terms, axis=-1, keepdims=True)


def zero_for_nothing(x):
    empty = np.all(np.isneginf(x), axis=-1, keepdims=True)
    return np.where(empty, x.dtype.type(0), rows(np.where(empty, x.dtype.type(0), x)))


def rough(x):
    """exp is off by ten ulps, but for exp(0)."""
    gaps = x - np.max(x, axis=-1, keepdims=True)
    terms = np.exp(gaps) * np.where(gaps < 0, x.dtype.type(1 + 20 * 2.0**-24), x.dtype.type(1))
    return terms / np.sum(terms, axis=-1, keepdims=True)


def overflowing(x):
    return np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)


def backend(function):
    def silent(x, axis=-1):
        with np.errstate(all="ignore"):
            return np.moveaxis(function(np.moveaxis(x, axis, -1)), -1, axis)

    return Backend(function.__name__, {"softmax": silent}, dtypes=("float32",))


def decision(inferred, name):
    return next(d for d in inferred.decisions if d.name == name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "found"),
    [
        (rows, {"flush_subnormals": False, "all_minus_inf": "nan", "deterministic": True, "compute": None}),
        (flushing, {"flush_subnormals": True, "compute": None}),
        (in_half, {"compute": "float16"}),
        (zero_for_nothing, {"all_minus_inf": "zero"}),
    ],
)
def test_a_contract_is_met_and_no_tighter_one(function, found):
    subject = backend(function)
    inferred = infer(subject, **ASKED)
    assert not inferred.broken
    assert {name: getattr(inferred.contract, name) for name in found} == found
    met = check(subject, contract=inferred.contract, profile="smoke", **ASKED)
    assert met.conforms
    for name in [n for n in found if decision(inferred, n).refuted]:
        values = {f.name: f.values for f in fields_for(["float32"])}[name]
        tighter = values[values.index(found[name]) - 1]
        assert check(subject, contract=replace(inferred.contract, **{name: tighter}), **ASKED).broken


@pytest.mark.slow
def test_the_error_of_the_exponential_is_the_smallest_that_passes():
    subject = backend(rough)
    inferred = infer(subject, **ASKED)
    values = exp_field().values
    place = values.index(inferred.contract.exp_ulp)
    assert inferred.contract.compute is None
    assert 3.0 < inferred.contract.exp_ulp < 16.0
    assert check(subject, contract=inferred.contract, profile="smoke", **ASKED).conforms
    tighter = replace(inferred.contract, exp_ulp=values[place - 1])
    assert check(subject, contract=tighter, profile="smoke", **ASKED).broken
    assert decision(inferred, "exp_ulp").refuted


@pytest.mark.slow
def test_what_is_broken_whatever_is_promised_is_told():
    inferred = infer(backend(overflowing), **ASKED)
    broken = {verdict.clause for verdict in inferred.broken}
    assert {"stability.magnitude", "accuracy.certified"} <= broken
    assert all(verdict.witness is not None for verdict in inferred.broken)
    assert "determinism.repeat" not in broken
    assert len(inferred.verdicts) == len({(v.clause, v.op, v.dtype) for v in inferred.verdicts})


def attention(q, k, v, *, scale=None, causal=False, mask=None):
    """Causal as top-left, a query without keys gives NaN."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (np.repeat(a, q.shape[-3] // a.shape[-3], axis=-3) if a.ndim > 2 else a for a in (k, v))
    scores = (q @ np.swapaxes(k, -1, -2)) * q.dtype.type(scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    with np.errstate(all="ignore"):
        return (rows(scores) @ v).astype(q.dtype)


@pytest.mark.slow
def test_conventions_of_attention_are_found():
    subject = Backend("attention", {"attention": attention}, dtypes=("float32",))
    inferred = infer(subject, ops="attention", dtypes="float32")
    assert inferred.contract.causal == "top-left"
    assert inferred.contract.masked_row == "nan"
    assert inferred.contract.memory == "any"
    assert decision(inferred, "memory").refuted == "memory.growth"
    assert not decision(inferred, "lse_base").decided
    assert not inferred.broken
    met = check(subject, ops="attention", dtypes="float32", contract=inferred.contract, profile="smoke")
    assert met.conforms


def test_a_subject_of_one_clause_short_of_everything_is_refused():
    def picky(x):
        raise TypeError("never")

    subject = Backend("picky", {"softmax": picky}, dtypes=("float32",))
    with pytest.raises(RequestError, match="unknown"):
        infer(subject, profile="no-such")


def test_fields_are_those_of_a_contract_in_some_order():
    names = [f.name for f in (*fields_for(["float32"]), exp_field())]
    assert sorted(names) == sorted(Contract().to_mapping())


@pytest.mark.parametrize(
    ("dtypes", "compute", "accumulator"),
    [
        (["float64"], (None, "float32", "float16", "bfloat16"), (None, "float32", "float16", "bfloat16")),
        (["float32"], ("float64", None, "float16", "bfloat16"), ("float64", None, "float16", "bfloat16")),
        (["float16"], ("float64", "float32", None, "bfloat16"), ("float64", None, "float16", "bfloat16")),
    ],
)
def test_formats_are_ordered_by_what_they_promise(dtypes, compute, accumulator):
    values = {f.name: f.values for f in fields_for(dtypes)}
    assert values["compute"] == compute
    assert values["accumulator"] == accumulator
    assert values["attention_scores"][0] is None


def test_every_value_is_one_that_a_contract_can_hold():
    for dtypes in (["float32"], ["float64", "bfloat16"]):
        for field in (*fields_for(dtypes), exp_field()):
            for value in field.values:
                assert getattr(Contract(**{field.name: value}), field.name) == value


def test_strictness_is_an_order():
    fields = fields_for(["float32"])
    default, lax = Contract(masked_nan="ignored"), laxest(fields, "bfloat16")
    assert at_least_as_strict(default, default, fields)
    assert at_least_as_strict(replace(default, exp_ulp=1.0), default, fields)
    assert not at_least_as_strict(default, replace(default, exp_ulp=1.0), fields)
    assert not at_least_as_strict(lax, default, fields)
    assert at_least_as_strict(default, replace(default, nan="any", compute="float16"), fields)
    # float16 has more digits, and bfloat16 the wider range.
    half = laxest(fields, "float16")
    assert half.compute == half.accumulator == "float16"
    assert not at_least_as_strict(half, lax, fields)
    assert not at_least_as_strict(lax, half, fields)
    # Neither of two conventions is the stricter one; whoever promises one promises "any".
    zero, nan = (replace(default, all_minus_inf=word) for word in ("zero", "nan"))
    assert not at_least_as_strict(nan, zero, fields)
    assert not at_least_as_strict(zero, nan, fields)
    assert at_least_as_strict(zero, replace(default, all_minus_inf="any"), fields)


@pytest.mark.slow
def test_the_file_is_what_a_check_reads():
    inferred = infer(backend(rows), **ASKED)
    text = contract_toml(inferred, "profile smoke, seed 0")
    assert Contract.from_mapping(tomllib.loads(text)) == inferred.contract
    assert "cases" in text
    assert "masked_row" in text.partition("Not decided")[2]
