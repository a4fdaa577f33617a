"""The independent checker on witnesses made by hand: true ones pass, each falsification is named."""

import ast
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PROGRAM = TOOLS / "verify_witness.py"


def tensor(values, dtype="float64", shape=None, name="x"):
    return {
        "name": name,
        "dtype": dtype,
        "shape": [len(values)] if shape is None else shape,
        "hex": [float(v).hex() for v in values],
    }


def witness(op, operands, outputs, finding, *, dtype="float64", shape=None, params=None):
    """A witness of one call; `finding` lacks only the call and the message."""
    return {
        "schema": 1,
        "kind": "witness",
        "softcert": "0.1.0",
        "clause": "accuracy.certified",
        "op": op,
        "dtype": dtype,
        "subject": {"spec": "kernel.py:f", "name": "f"},
        "seed": 0,
        "trial": {
            "calls": [
                {
                    "op": op,
                    "params": {"axis": -1, **(params or {})},
                    "layout": "contiguous",
                    "repeat": 1,
                    "operands": [tensor(v, dtype, shape) for v in operands],
                }
            ]
        },
        "replies": [tensor(outputs, dtype, shape if op != "logsumexp" else [len(outputs)])],
        "finding": {"call": 0, "message": "", "bound_ulp": 4.0, **finding},
    }


def element(op, index, exact, observed, error, **more):
    quantity = f"{op}(x)[{', '.join(map(str, index))}]"
    return {
        "index": index,
        "quantity": quantity,
        "exact": exact,
        "observed": observed,
        "error_ulp": error,
        **more,
    }


# 1/(1+e) and 1/(1+e^3), log(1+e+e^2), -log(1+e^-100), e^-100/(1+e^-100): thirty digits each, rounded outward
LOGISTIC_MINUS_1 = ["0.268941421369995120748840758178", "0.268941421369995120748840758179"]
LOGISTIC_MINUS_3 = ["0.0474258731775667808788481517717", "0.0474258731775667808788481517718"]
LSE_012 = ["2.40760596444438030448291990454", "2.40760596444438030448291990455"]
LOG_ALMOST_1 = ["-3.72007597602083596295969580387E-44", "-3.72007597602083596295969580386E-44"]
E_MINUS_100 = ["3.72007597602083596295969580386E-44", "3.72007597602083596295969580387E-44"]

TRUE = {
    "softmax": witness(
        "softmax",
        [[0, 1]],
        [0.25, 0.75],
        element("softmax", [0], LOGISTIC_MINUS_1, 0.25, [3.41218312895e14, 3.41218312896e14]),
    ),
    "beta": witness(
        "softmax",
        [[0, 1]],
        [0.0625, 0.9375],
        element("softmax", [0], LOGISTIC_MINUS_3, "0x1p-4", [2.17e15, 2.18e15]),
        params={"beta": 3.0},
    ),
    "first axis": witness(
        "softmax",
        [[0, 5, 1, 5]],
        [0.25, 0.5, 0.75, 0.5],
        element("softmax", [0, 0], LOGISTIC_MINUS_1, 0.25, [3.4121e14, 3.4122e14]),
        shape=[2, 2],
        params={"axis": 0},
    ),
    "tie, decided by algebra": witness(
        "softmax", [[7, 7]], [0.75, 0.25], element("softmax", [1], ["0.5", "0.5"], 0.25, [2.0**51, 2.0**51])
    ),
    "subnormal of float32": witness(
        "softmax",
        [[0, -100]],
        [1, 0],
        element("softmax", [1], E_MINUS_100, 0.0, [26.547, 26.548]),
        dtype="float32",
    ),
    "far below the smallest decimal": witness(
        "softmax",
        [[0, -1e308]],
        [1, 2.0**-1070],
        element(
            "softmax",
            [1],
            [0.0, "1e-43429448190325182765112891891660508229439700580366"],
            2.0**-1070,
            [15.9, 16],
        ),
    ),
    "bfloat16": witness(
        "softmax",
        [[0, 1]],
        [0.25, 0.75],
        element("softmax", [0], LOGISTIC_MINUS_1, 0.25, [9.698, 9.699]),
        dtype="bfloat16",
    ),
    "logsumexp": witness(
        "logsumexp",
        [[0, 1, 2]],
        [2.5],
        element("logsumexp", [0], LSE_012, 2.5, [2.08e14, 2.09e14]),
        shape=[1, 3],
    ),
    "log_softmax near zero": witness(
        "log_softmax",
        [[0, -100]],
        [-1e-40, -100],
        element("log_softmax", [0], LOG_ALMOST_1, -1e-40, [2e19, 1e21]),
    ),
    "vjp, rational": witness(
        "softmax_vjp",
        [[0.25, 0.75], [1, 2]],
        [0.0, 0.1875],
        element("softmax_vjp", [0], [-0.1875, -0.1875], 0.0, [0.1875 / 2.0**-55, 0.1875 / 2.0**-55]),
    ),
    "jvp, zero": witness(
        "softmax_jvp",
        [[0.5, 0.5], [3, 3]],
        [2.0**-1070, 0],
        element("softmax_jvp", [0], [0, 0], 2.0**-1070, [16, 16]),
    ),
    "NaN observed": witness(
        "softmax", [[0, 1]], [float("nan")] * 2, element("softmax", [0], LOGISTIC_MINUS_1, "nan", None)
    ),
    "-inf is exactly zero": witness(
        "softmax",
        [[0, float("-inf")]],
        [1, 2.0**-1070],
        element("softmax", [1], [0, 0], 2.0**-1070, [16, 16]),
    ),
    "NaN asked for": witness(
        "softmax", [[0, float("nan")]], [1, 0], element("softmax", [0], None, 1.0, None, bound_ulp=None)
    ),
    "sum": witness(
        "softmax",
        [[0, 1]],
        [0.25, 0.8125],
        {
            "index": [],
            "quantity": "sum of the outputs",
            "exact": [1, 1],
            "observed": 1.0625,
            "error_ulp": [2.0**48] * 2,
        },
    ),
}


def check(tmp_path, *documents):
    files = []
    for k, document in enumerate(documents):
        files.append(tmp_path / f"{k}.json")
        files[-1].write_text(document if isinstance(document, str) else json.dumps(document))
    # -I -S: neither this repository nor any installed package can be imported, only the program's own folder
    start = (
        f"import sys, runpy; sys.path.insert(0, {str(TOOLS)!r}); "
        f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", start, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def changed(document, *path, value):
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def test_true_certificates_are_confirmed(tmp_path):
    done = check(tmp_path, *TRUE.values())
    lines = done.stdout.splitlines()
    assert len(lines) == len(TRUE)
    for name, line in zip(TRUE, lines, strict=True):
        assert ": true: " in line, f"{name}: {line}"
    assert done.returncode == 0


FALSE = {
    "last digit of the enclosure": (
        "softmax",
        ("exact",),
        ["0.268941421369995120748840758179", "0.268941421369995120748840758180"],
        "enclosure",
    ),
    "enclosure of another element": ("softmax", ("index",), [1], "observed"),
    "observed value": ("softmax", ("observed",), 0.26, "observed"),
    "error too large": ("softmax", ("error_ulp",), [3.42e14, 3.43e14], "outside the interval"),
    "error too small": ("softmax", ("error_ulp",), [4.5, 1e10], "outside the interval"),
    "bound not broken": ("softmax", ("bound_ulp",), 1e15, "does not exceed the bound"),
    "bound broken by the upper end alone": (
        "subnormal of float32",
        ("bound_ulp",),
        26.5475,
        "does not exceed",
    ),
    "beta forgotten": ("beta", ("exact",), LOGISTIC_MINUS_1, "enclosure"),
    "tie": ("tie, decided by algebra", ("exact",), ["0.5000000000000000000000000001", "0.51"], "enclosure"),
    "sign": ("log_softmax near zero", ("exact",), ["3.72E-44", "3.73E-44"], "enclosure"),
    "ulp of the wrong binade": ("logsumexp", ("error_ulp",), [4.15e14, 4.17e14], "outside the interval"),
    "gradient": ("vjp, rational", ("exact",), [-0.2, -0.18751], "enclosure"),
    "sum": ("sum", ("error_ulp",), [5, 6], "outside the interval"),
    "sum observed": ("sum", ("observed",), 1.5, "the sum is"),
}


def test_falsified_certificates_are_named(tmp_path):
    falsified = [
        changed(TRUE[base], "finding", *path, value=value) for base, path, value, _ in FALSE.values()
    ]
    done = check(tmp_path, *falsified)
    lines = done.stdout.splitlines()
    assert len(lines) == len(FALSE), done.stderr
    for (name, (*_, complaint)), line in zip(FALSE.items(), lines, strict=True):
        assert ": WRONG: " in line, f"{name}: {line}"
        assert complaint in line, f"{name}: {line}"
    assert done.returncode == 1


def test_right_special_value_is_no_finding(tmp_path):
    right = changed(TRUE["NaN asked for"], "replies", 0, "hex", value=["nan", "nan"])
    done = check(tmp_path, changed(right, "finding", "observed", value="nan"))
    assert "WRONG: the reply is nan, which is the right value" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("finding", "quantity"), "ratio of two outputs", "ratio of two outputs"),
        (
            ("finding",),
            {"call": 0, **element("softmax", [0], None, 0.25, None)},
            "neither an enclosure nor an error",
        ),
        (("finding", "index"), None, "names no element"),
        (("replies", 0), {"failure": "crash", "message": "signal 11"}, "the call failed (crash)"),
        (("replies", 0, "dtype"), "complex128", "complex128"),
    ],
)
def test_other_findings_are_not_recomputed(tmp_path, path, value, reason):
    done = check(tmp_path, changed(TRUE["softmax"], *path, value=value))
    assert "not recomputed: " in done.stdout
    assert reason in done.stdout
    assert done.returncode == 0


def test_run_gives_all_its_witnesses(tmp_path):
    verdicts = [
        {"clause": "accuracy.certified", "status": "fail", "witness": TRUE["softmax"]},
        {"clause": "simplex.range", "status": "pass", "witness": None},
        {
            "clause": "accuracy.certified",
            "status": "fail",
            "witness": changed(TRUE["sum"], "finding", "observed", value=3),
        },
    ]
    done = check(tmp_path, {"schema": 1, "kind": "run", "verdicts": verdicts})
    assert [": true: " in line for line in done.stdout.splitlines()] == [True, False]
    assert done.returncode == 1


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        {"kind": "witness"},
        changed(TRUE["softmax"], "finding", "index", value=[2]),
        changed(TRUE["softmax"], "finding", "observed", value="a quarter"),
        changed(TRUE["softmax"], "trial", "calls", 0, "operands", 0, "shape", value=[3]),
    ],
    ids=["cut short", "no record", "empty", "index", "number", "shape"],
)
def test_unreadable_file_is_one_sentence_and_status_two(tmp_path, document):
    done = check(tmp_path, document)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unreadable_witness_does_not_hide_the_next(tmp_path):
    verdicts = [{"witness": {"kind": "witness"}}, {"witness": TRUE["softmax"]}]
    done = check(tmp_path, {"kind": "run", "verdicts": verdicts})
    assert done.returncode == 2
    assert ": true: " in done.stdout


def test_missing_file_has_status_two(tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path / "none.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def _imported(path):
    """The top-level names that a program of tools/ imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def test_program_rests_on_the_standard_library_alone():
    own, rest, waiting = {path.stem: path for path in TOOLS.glob("*.py")}, set(), {PROGRAM.stem}
    read = set()
    while waiting:
        name = waiting.pop()
        read.add(name)
        names = set(_imported(own[name]))
        waiting |= (names & set(own)) - read
        rest |= names - set(own)
    assert "attention_element" in read
    assert rest <= set(sys.stdlib_module_names)
