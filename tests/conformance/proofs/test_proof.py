"""A proof counts every row, finds the wrong one, agrees with the ordinary judge, and joins in any order."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest

from softcert import reference
from softcert.backends import numpy_
from softcert.backends.contract import Contract
from softcert.backends.types import Backend, Call
from softcert.conformance.context import Context
from softcert.conformance.examination.replay import replay
from softcert.conformance.judging.compare import certified_errors
from softcert.conformance.judging.judge import judge_values, ordinary_only
from softcert.conformance.model import OracleError, RequestError, Trial
from softcert.conformance.proofs import DOMAINS, PROOF, Part, prove
from softcert.conformance.proofs import judging as proof_judging
from softcert.conformance.proofs.part import total
from softcert.conformance.proofs.subjects import release
from softcert.conformance.wire.runs import witness_from_json
from softcert.reference.fast import short_rows

#: Binary32 inside, so that an answer to a 16-bit row may err by its last rounding and next to nothing else.
SHARP = Contract(compute="float32", form="division", exp_ulp=1.0)
SETTINGS = {"task": "proof", "subject": "numpy", "domain": "single", "op": "softmax", "dtype": "float16"}


def backend(kernel, op="softmax", contract=SHARP):
    return Backend("subject", {op: kernel}, ("float16", "bfloat16"), contract)


def rounded(x, axis=-1):
    """By binary64, so that all but one answer in 10^10 is correctly rounded."""
    return numpy_.softmax(x.astype(np.float64), axis).astype(x.dtype)


def defective(row, column, domain="pairs", dtype="float16"):
    """Right but for one result of one row, which is the number after the right one."""
    wanted = DOMAINS[domain].row(row, dtype).view(np.uint16)[0]

    def softmax(x, axis=-1):
        y = rounded(x, axis)
        bits = np.ascontiguousarray(x).view(np.uint16)
        y.view(np.uint16)[(bits == wanted).all(axis=-1), column] += 1
        return y

    return softmax


# --- domains ---


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_holds_each_row_once(name):
    domain = DOMAINS[name]
    for dtype in domain.dtypes:
        size = domain.size(dtype)
        assert size == {
            "pairs": 2**32,
            "single": 2 ** (8 * np.dtype(domain.row(0, dtype).dtype).itemsize),
        }.get(name, 2**24)
        ends = domain.rows(0, 3, dtype), domain.rows(size - 3, size, dtype)
        assert [e.shape for e in ends] == [(3, domain.classes)] * 2
        # every row of a part is different from the others by its bits, but for the NaN of triples
        first = 777 if size < 2**20 else 2**20 + 777
        bits = domain.rows(first, first + 4096, dtype).view(f"u{ends[0].dtype.itemsize}")
        distinct = len(np.unique(bits, axis=0))
        assert distinct == 4096 if name != "triples" else distinct >= 4096 * 250 // 256


def test_triples_are_the_numbers_of_float8():
    x = DOMAINS["triples"].rows(0, 256, "float16").astype(np.float64)[:, 2]
    values = [reference.format_of("float8_e4m3fn").decode(code) for code in range(256)]
    np.testing.assert_array_equal(x, values)


# --- against the ordinary judge ---


@pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_whole_domain_is_judged_as_the_ordinary_judge_does(op, dtype):
    kernel = getattr(numpy_, op)
    verdict = prove(backend(kernel, op, Contract(form="division")), "single", op, dtype)
    x = DOMAINS["single"].rows(0, 65536, dtype)
    trial, context = Trial((Call(op, (x,)),)), Context(op, dtype, Contract(form="division"))
    with np.errstate(all="ignore"):
        value = kernel(x)
        judged = judge_values(trial, (value,), context)
    assert (verdict.status, verdict.cases, verdict.elements) == ("pass", 65536, value.size)
    assert (
        verdict.exhaustive == f"(x, 0) for every {dtype} number x, NaN and infinities included: 65,536 rows"
    )
    assert verdict.error_max == pytest.approx(judged.error_ulp, rel=1e-9)
    assert verdict.margin == pytest.approx(judged.margin, rel=1e-6)
    compared = judged.compared[0]
    # The ordinary judge knows errors below half an ulp to few digits where the exact value is next to 0.
    mean = compared.upper[compared.ordinary].mean()
    assert mean - 1e-5 < verdict.error_mean < mean + 1e-8
    within = np.searchsorted(verdict.statistics["within"]["ulps"], compared.upper[compared.ordinary])
    assert verdict.statistics["within"]["of"] == within.size == int(compared.ordinary.sum())
    counts = np.bincount(within, minlength=74)[:-1].cumsum()
    assert np.abs(counts - verdict.statistics["within"]["counts"]).max() <= 8
    assert counts[0] < counts[20] < counts[-1]
    with np.errstate(all="ignore"):
        signed = context.truth(ordinary_only(trial.calls[0])).signed_error_ulp(value)
    bias = ((signed[0] + signed[1]) / 2)[compared.ordinary].mean()
    assert verdict.statistics["proof"]["bias_ulp"] == pytest.approx(bias, abs=1e-5)
    assert set(verdict.controls.values()) == {"caught"}


@pytest.mark.parametrize("op", ["log_softmax", "logsumexp"])
def test_the_certified_backend_rounds_every_row_correctly(op):
    """Two oracles that share nothing, on every row; its bound is as small as binary64's own errors."""
    verdict = prove("certified", "single", op, "bfloat16")
    assert (verdict.status, verdict.grade) == ("pass", "A")
    assert 0.9 < verdict.margin < 1.0


def test_a_correctly_rounded_domain_is_graded_so():
    verdict = prove(backend(rounded), "single", "softmax", "float16")
    assert (verdict.status, verdict.grade) == ("pass", "A")
    assert 0.4999 < verdict.error_max[0] <= verdict.error_max[1] <= 0.5
    # the same by the exact oracle alone, of every row with an exact value
    x = DOMAINS["single"].rows(0, 65536, "float16")
    x = x[np.isfinite(x.astype(np.float64)).all(axis=1)]
    truth = reference.softmax(x, method="fast")
    upper = certified_errors(truth, rounded(x), np.full(x.shape, np.inf))[1]
    assert verdict.error_max[1] == pytest.approx(upper.max(), abs=1e-9)


# --- one wrong row among 2^32 ---


@pytest.mark.parametrize(("row", "column"), [(0x3C00_3C00, 0), (0x0001_8002, 1), (0x5BFF_5BFF, 1)])
def test_one_ulp_at_one_pair_is_found_by_the_part_that_holds_it_and_no_other(row, column):
    subject, size = backend(defective(row, column)), 1 << 12
    first = row // size * size
    for start in (first - size, first, first + size):
        verdict = prove(subject, "pairs", "softmax", "float16", first=start, last=start + size)
        assert verdict.cases == size
        assert not verdict.exhaustive
        if start != first:
            assert (verdict.status, verdict.grade, verdict.witness) == ("pass", "A", None)
            continue
        assert (verdict.status, verdict.grade) == ("fail", "F")
        (x,) = verdict.witness.trial.calls[0].operands
        np.testing.assert_array_equal(x, DOMAINS["pairs"].row(row, "float16"))
        assert verdict.error_max[0] > 0.9
        assert replay(verdict.witness, subject).status == "fail"
        assert replay(verdict.witness, backend(rounded)).status == "pass"


def test_a_defect_that_needs_a_long_call_is_shown_by_one():
    def softmax(x, axis=-1):
        y = rounded(x, axis)
        if len(x) >= 64:
            y[37, 1] = 0.25
        return y

    verdict = prove(backend(softmax), "single", "softmax", "float16")
    (x,) = verdict.witness.trial.calls[0].operands
    assert verdict.status == "fail"
    assert 64 <= len(x) < 65536


# --- what has no exact value, and what is no answer ---


def test_nan_and_infinities_are_judged_by_the_contract():
    def softmax(x, axis=-1):
        return np.nan_to_num(rounded(x, axis), nan=0.5)

    verdict = prove(backend(softmax), "single", "softmax", "float16")
    assert verdict.status == "fail"
    assert verdict.message == (
        "softmax of a row with a +inf logit gives 0.5 where it must give NaN at +inf, "
        "and NaN or the limit elsewhere"
    )
    lenient = replace(SHARP, nan="any", plus_inf="any")
    assert prove(backend(softmax, contract=lenient), "single", "softmax", "float16").status == "pass"


def test_minus_infinity_beside_a_number_has_an_exact_value():
    def softmax(x, axis=-1):
        return np.where(np.isneginf(x), x.dtype.type(2.0**-24), rounded(x, axis)).astype(x.dtype)

    verdict = prove(backend(softmax), "single", "softmax", "float16")
    assert verdict.status == "fail"
    assert np.isneginf(verdict.witness.trial.calls[0].operands[0][0, 0])


@pytest.mark.parametrize("how", ["exit", "raise", "shape"])
def test_a_call_without_an_answer_is_an_error_with_the_row_that_causes_it(how):
    row = 0x1234

    def softmax(x, axis=-1):
        hit = (np.ascontiguousarray(x).view(np.uint16)[:, 0] == row).any()
        if hit and how == "exit":
            os._exit(3)
        if hit and how == "raise":
            raise ArithmeticError("not this one")
        return rounded(x, axis)[: -1 if hit and how == "shape" else None]

    subject = backend(softmax)
    verdict = prove(subject, "single", "softmax", "float16", first=0x1000, last=0x2000)
    assert (verdict.status, verdict.cases, verdict.exhaustive, verdict.grade) == ("error", 0, "", "F")
    (x,) = verdict.witness.trial.calls[0].operands
    np.testing.assert_array_equal(x, DOMAINS["single"].row(row, "float16"))
    assert {"exit": "exited with status 3", "raise": "not this one", "shape": "not float16"}[
        how
    ] in verdict.message


# --- a wrong oracle is noticed ---


@pytest.mark.parametrize("wrong", ["value", "share"])
def test_an_oracle_that_errs_stops_the_proof(monkeypatch, wrong):
    """A millionth of an ulp in the errors, or shares that make the estimates of error / bound too small."""

    def off(*arguments):
        errors = short_rows.short_row_errors(*arguments)
        if wrong == "share":
            return errors._replace(share=errors.share * 2.0)
        return errors._replace(lower=errors.lower + 1e-6, upper=errors.upper + 1e-6)

    assert prove(backend(rounded), "single", "softmax", "float16").status == "pass"
    monkeypatch.setattr(proof_judging, "short_row_errors", off)
    with pytest.raises(OracleError, match="the exact one by"):
        prove(backend(rounded), "single", "softmax", "float16")


# --- slices ---


def without_times(verdict):
    return replace(verdict, seconds=0.0, oracle_seconds=0.0, subject_seconds=0.0)


@pytest.mark.parametrize("domain", ["single", "triples"])
def test_the_parts_amount_to_the_whole_in_any_order(domain):
    settings = {**SETTINGS, "domain": domain, "first": 0, "last": 65536, "dtype": "bfloat16"}
    (whole,) = PROOF.slices({**settings, "slices": 1})
    pieces = list(PROOF.slices({**settings, "slices": 5}))
    assert len({piece["key"] for piece in pieces}) == 5
    results = [json.loads(json.dumps(PROOF.run(settings, piece), allow_nan=False)) for piece in pieces]
    assert sum(result["cases"] for result in results) == 65536
    (expected,) = PROOF.merge(settings, [PROOF.run(settings, whole)])
    for seed in range(3):
        shuffled = random.Random(seed).sample(results, 5)
        (merged,) = PROOF.merge(settings, shuffled)
        assert without_times(merged) == without_times(expected)
        parts = [Part.from_json(result) for result in shuffled]
        left, right = total(parts[:2]) + total(parts[2:]), parts[0] + (parts[1] + total(parts[2:]))
        assert replace(left, oracle_seconds=0.0, subject_seconds=0.0) == replace(
            right, oracle_seconds=0.0, subject_seconds=0.0
        )
    assert (merged.exhaustive != "") == (domain == "single")
    assert merged.message == ("" if domain == "single" else "65,536 of 16,777,216 rows")
    # a slice given twice would count twice
    with pytest.raises(ValueError, match="are in two parts"):
        PROOF.merge(settings, [*results, results[2]])


def _in_a_child(settings, piece, write):
    os.write(write, json.dumps(PROOF.run(settings, piece)["error_sum"]).encode())
    release()
    os._exit(0)


def test_a_forked_process_asks_a_worker_of_its_own():
    """Both at once: on one worker they would read each other's answers."""
    settings = {**SETTINGS, "first": 0, "last": 8192, "slices": 2}
    first, second = PROOF.slices(settings)
    expected = [PROOF.run(settings, piece)["error_sum"] for piece in (first, second)]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _in_a_child(settings, first, write)
    found = PROOF.run(settings, second)["error_sum"]
    assert os.waitpid(child, 0)[1] == 0
    assert [json.loads(os.read(read, 100)), found] == expected
    assert PROOF.run(settings, first)["error_sum"] == expected[0]


def test_a_witness_goes_through_a_result_unchanged():
    settings = {**SETTINGS, "subject": "numpy-naive", "first": 0x5900, "last": 0x5A00}
    (piece,) = PROOF.slices(settings)
    result = json.loads(json.dumps(PROOF.run(settings, piece), allow_nan=False))
    (verdict,) = PROOF.merge(settings, [result])
    assert verdict.status == "fail"
    assert replay(verdict.witness).status == "fail"


def test_the_largest_error_comes_as_a_case_that_can_be_replayed():
    verdict = prove("numpy", "single", "softmax", "float16", first=0, last=0x4000)
    witness = witness_from_json(verdict.statistics["proof"]["witness"])
    again = replay(witness)
    assert again.status == "pass"
    assert again.error_max == pytest.approx(verdict.error_max, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"domain": "pair"}, "the domains are pairs, single, triples"),
        ({"op": "entmax"}, "has no proof by exhaustion"),
        ({"dtype": "float64"}, "proved for float16, bfloat16, float32, not for 'float64'"),
        ({"domain": "pairs", "dtype": "float32"}, "proved for float16, bfloat16, not"),
        ({"first": 5, "last": 5}, "rows 5 to 5 are none of a domain of 65536 rows"),
        ({"slices": 0.5}, "is no number of slices"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    with pytest.raises(RequestError, match=words):
        list(PROOF.slices({**SETTINGS, **change}))


def test_settings_without_a_subject_are_refused():
    with pytest.raises(RequestError, match="a proof needs subject, op"):
        list(PROOF.slices({"domain": "single", "dtype": "float16"}))
