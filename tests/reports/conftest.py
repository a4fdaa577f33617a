"""Runs made by hand from model objects, as a real run holds them, for every report test."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from softcert.backends.ops import ATTENTION_OPS, DTYPES
from softcert.backends.types import Call, Failure, Output, as_dtype
from softcert.conformance.model import Finding, Run, Trial, Verdict, Witness
from softcert.conformance.spec import DERIVATIVE_OPS, FORWARD_OPS
from softcert.reports.statements import statements

OPS = (*FORWARD_OPS, *DERIVATIVE_OPS)
EDGES = (0.0, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0, 64.0, 128.0, 1e3, 1e4, 1e6)
CLAUSES = (
    "simplex.range",
    "simplex.sum",
    "simplex.positive",
    "accuracy.certified",
    "accuracy.length",
    "translation.exact-shift",
    "order.equal",
    "stability.special-values",
    "purity.inputs",
)


def error_at(quality, n, dtype):
    return quality * (1.0 + 0.02 * DTYPES.index(dtype)) * (0.45 + 0.02 * math.log2(n))


def bound_at(n, dtype):
    return 9.0 + (0.02 * n if dtype == "float32" else 0.002 * n)


def figures(quality, dtype):
    lengths = [1, 2, 3, 7, 16, 64, 127, 128, 129, 1024, 4096, 131072]
    by_length = [
        {
            "n": n,
            "error_ulp": error_at(quality, n, dtype),
            "bound_ulp": bound_at(n, dtype),
            "family": "normal",
        }
        for n in lengths
    ]
    counts = [int(6e4 * 3.0**-i) if edge < 2.5 * quality else 0 for i, edge in enumerate(EDGES)]
    bias = {"mean_ulp": 0.001, "z": 0.4, "count": 1000}
    return {"by_length": by_length, "histogram": {"edges": list(EDGES), "counts": counts}, "bias": bias}


def make_witness(clause, op, dtype, subject, size=5, reply=None):
    random = np.random.default_rng(5)
    with np.errstate(all="ignore"):
        x = np.concatenate([[0.0, -0.0], random.normal(size=size - 2)]).astype(as_dtype(dtype))
        y = (np.exp(x.astype(np.float64)) / size).astype(as_dtype(dtype))
    operands = (x,) if op in {"softmax", "log_softmax", "logsumexp"} else (y, x)
    call = Call(op, operands, {"axis": -1} | ({"beta": 1.7} if op == "softmax" else {}), "strided")
    finding = Finding(
        call=0,
        index=(2,),
        quantity=f"{op}(x)[2]",
        exact=("0.153846153846153846153846153846", "0.153846153846153846153846153847"),
        observed="0x1.3b13b2p-3",
        error_ulp=(23.40625, 23.40626),
        bound_ulp=11.25,
        message="element 2 is off by at least 23.4 ulp, and the contract allows 11.25",
    )
    if isinstance(reply, Failure):
        finding = Finding(
            0, None, "the call", None, "killed by signal 11 (SIGSEGV)", None, None, reply.message
        )
    trial = Trial((call,), {"shift": 2.0}, "normal")
    return Witness(clause, op, dtype, subject, trial, (reply or Output((y,), 1e-6),), finding, seed=3)


def make_verdict(clause, op, dtype, quality, subject):
    graded = clause.startswith("accuracy.")
    error = error_at(quality, 131072, dtype)
    margin = error / 9.3
    fields = {
        "clause": clause,
        "op": op,
        "dtype": dtype,
        "status": "pass",
        "cases": 120,
        "elements": 48_231,
        "seconds": 0.2,
        "controls": {"zeros": "caught", "uniform": "caught"},
    }
    if graded:
        grade = "F" if margin > 1 else "A" if error <= 0.5 else "B" if error < 1 else "C"
        fields |= {"error_max": (error, error * (1 + 1e-9)), "error_mean": error / 5, "bound_ulp": 9.3}
        fields |= {"margin": margin, "grade": grade, "statistics": figures(quality, dtype)}
    if graded and margin > 1:
        fields |= {"status": "fail", "message": "off by more than the contract allows"}
        fields["witness"] = make_witness(clause, op, dtype, subject, 200 if dtype == "float32" else 6)
    if clause == "simplex.sum" and dtype == "bfloat16":
        fields |= {"status": "vacuous", "message": "the bound of the sum is wider than [0, n]"}
    if clause == "order.equal" and op == "logsumexp":
        fields |= {"status": "skip", "message": "an op with one result has no order"}
    if clause == "translation.exact-shift" and dtype == "float16":
        fields["controls"] = {"zeros": "passed", "uniform": "caught"}
    if clause == "stability.special-values" and quality > 5:
        failure = Failure("crash", "the worker was killed by signal 11 (SIGSEGV)")
        fields |= {"status": "error", "message": failure.message}
        fields["witness"] = make_witness(clause, op, dtype, subject, 3, failure)
    if clause == "purity.inputs" and quality > 5 and dtype == "float64":
        fields |= {"status": "xfail", "message": "normalizes in place, by design"}
    return Verdict(**fields)


def make_run(name, quality=1.0, ops=OPS, dtypes=DTYPES, clauses=CLAUSES, **changes):
    subject = f"kernels/{name}.py:softmax"
    verdicts = [make_verdict(c, op, d, quality, subject) for c in clauses for op in ops for d in dtypes]
    fields = {
        "subject": subject,
        "name": name,
        "contract": {"exp_ulp": 3.0, "form": "division", "compute": None},
        "environment": {
            "python": "CPython 3.11.9",
            "platform": "Linux 6.1 x86_64",
            "processor": "Some Processor @ 2.00GHz",
            "simd": ["avx2", "fma", "avx512f"],
            "cores": 2,
            "versions": {"softcert": "0.1.0", "mpmath": "1.3.0", "numpy": "2.4.0"},
            "date": "2026-01-02T03:04:05Z",
        },
        "request": {"profile": "quick", "seed": 0, "ops": list(ops), "dtypes": list(dtypes), "clauses": []},
        "verdicts": tuple(verdicts),
        "speed": (),
        "seconds": 61.25,
    }
    return Run(**(fields | changes))


SPEED = (
    {
        "op": "softmax",
        "dtype": "float32",
        "shape": [4096, 4096],
        "seconds": 0.0123,
        "spread": [0.0121, 0.0131],
        "bytes_per_second": 1.09e10,
        "copy_bytes_per_second": 1.8e10,
    },
    {"op": "softmax", "dtype": "float64", "shape": [8], "seconds": 2.5e-6},
)


@pytest.fixture(scope="session")
def runs():
    return [make_run("exact", 0.5), make_run("good", 1.6, speed=SPEED), make_run("broken", 14.0)]


@pytest.fixture(scope="session")
def small():
    return [make_run("broken", 14.0, ops=("softmax",), dtypes=("float64", "float32"), speed=SPEED)]


@pytest.fixture(scope="session")
def build():
    """The maker of runs, for tests that need their own."""
    return make_run


def places(quality, op):
    """Where errors occur, as figures of a real verdict say it: two dozen bins of each quantity."""

    def bins(edges):
        return [
            {"from": e, "error_ulp": quality * (1 + k % 5), "margin": 0.1 + k % 7 / 10, "elements": 9 + k}
            for k, e in enumerate(edges)
        ]

    octaves = [0.0, *(2.0**k for k in range(-10, 12))]
    found = {"by_spread": bins(octaves), "by_magnitude": bins(octaves)}
    within = [2.0 ** (k / 4) for k in range(-16, 40)]
    found["within"] = {"ulps": within, "counts": [9 * k for k in range(len(within))], "of": 9 * len(within)}
    if op in ATTENTION_OPS:
        cells = [[k % 32, (7 * k) % 32, 0.1 + k % 9 / 8, 4] for k in range(96)]
        found |= {"by_query": bins(range(20)), "by_key": bins(range(20)), "by_feature": bins(range(20))}
        return found | {"residues": {"axes": ["L", "S"], "moduli": [32, 32], "cells": cells}}
    cells = [[k, 0.1 + k % 9 / 8, 4] for k in range(64)]
    return found | {"residues": {"axes": ["n"], "moduli": [64], "cells": cells}}


def speeds(slowness):
    """Rows of times as a real run holds them: four lengths of each op and dtype."""
    rows = []
    for op in ("softmax", "log_softmax", "attention", "attention_vjp"):
        for dtype in DTYPES:
            for n in (128, 512, 2048, 8192):
                shape = [8, n, n, 64] if op in ATTENTION_OPS else [64, n]
                work = math.prod(shape)
                seconds = slowness * 1e-10 * work
                rows.append(
                    {
                        "op": op, "dtype": dtype, "shape": shape, "seconds": seconds, "clock": "wall",
                        "interval": [0.9 * seconds, 1.2 * seconds], "operations": 4 * work, "bytes": 8 * work,
                        "bytes_per_second": 8 * work / seconds, "copy_bytes_per_second": 2e11,
                        "memory_bytes_per_second": 1e11, "matrix_flops_per_second": 1e12,
                        "peak_bytes": 8 * n * n, "status": "ok",
                    }
                )  # fmt: skip
    return tuple(rows)


def concerns(clause, op):
    group = clause.partition(".")[0]
    if group in {"accuracy", "memory", "determinism", "purity"}:
        return True
    return ("attention" in clause) == (op in ATTENTION_OPS)


@pytest.fixture(scope="session")
def crowd():
    """Twenty backends with every op, dtype and clause, as large as real runs of all of them."""
    ops = (*OPS, *ATTENTION_OPS)
    runs = []
    for k in range(20):
        run = make_run(f"backend-{k}", 0.5 + k, ops=ops, clauses=tuple(statements()), speed=speeds(1 + k))
        verdicts = [
            replace(v, statistics={**v.statistics, **places(0.5 + k, v.op)}) if v.statistics else v
            for v in run.verdicts
            if concerns(v.clause, v.op)
        ]
        runs.append(replace(run, verdicts=tuple(verdicts)))
    return runs
