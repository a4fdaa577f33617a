"""Runs and witnesses survive their files bit by bit, and a wrong file ends in one clear sentence."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from softcert.backends.ops import OPS
from softcert.backends.types import Call, Failure, Output
from softcert.conformance.inputs.features import harmless_call
from softcert.conformance.model import Finding, RequestError, Run, Trial, Verdict, Witness
from softcert.conformance.wire.arrays import FLOATS, ArrayError, array_from_json, array_to_json
from softcert.conformance.wire.runs import (
    dumps,
    read_report,
    read_run,
    read_witness,
    report_to_json,
    run_from_json,
    run_to_json,
    schema,
    validate,
    witness_from_json,
    witness_to_json,
    write_document,
    write_text,
)


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def bits(array):
    return (str(array.dtype), array.shape, array.tobytes())


def make_witness(value=None, **changes):
    x = np.array([[1.0, -0.0, 5e-324, np.inf, -np.inf, np.nan]]) if value is None else value
    finding = Finding(
        0,
        (0, 2),
        "softmax(x)[0, 2]",
        ("0.1", "0.2"),
        "0x1.8p-3",
        (4.0, math.inf),
        3.5,
        "off by 4 ulp",
    )
    trial = Trial(
        (Call("softmax", (x,), {"axis": -1, "beta": 0.5}, "strided", 2),), {"shift": 2.0**-60}, "wide"
    )
    reply = Output((x * 1,), 1.5e-6, distinct=(-x,), side_effects=("input-modified",))
    fields = {"clause": "accuracy.certified", "op": "softmax", "dtype": "float64", "subject": "kernel.py:f"}
    return Witness(
        **(fields | {"trial": trial, "replies": (reply,), "finding": finding, "seed": 7} | changes)
    )


def make_run(**changes):
    statistics = {
        "by_length": [{"n": 16, "error_ulp": 1.3, "bound_ulp": math.inf, "family": "normal"}],
        "histogram": {"edges": [0.0, 0.5, 1.0], "counts": [7, 1]},
        "bias": {"mean_ulp": -1e-3, "z": 0.4, "count": 8},
    }
    verdicts = (
        Verdict("accuracy.certified", "softmax", "float64", "fail", 3, 18, (4.0, 4.0000001), 0.5, 3.5, 1.2,
                "F", "off by 4 ulp", make_witness(), {"zeros": "caught"}, statistics, 0.25),
        Verdict("simplex.sum", "softmax", "bfloat16", "vacuous", 1, 1, (0.0, math.inf), math.nan, math.inf),
        Verdict("order.equal", "softmax_vjp", "float32", "skip", message="not asked for"),
        Verdict("accuracy.certified", "softmax", "float16", "pass", exhaustive="every pair of numbers"),
    )  # fmt: skip
    fields = {
        "subject": "kernel.py:f",
        "name": "kernel",
        "contract": {"exp_ulp": 3.0, "compute": None, "form": "any"},
        "environment": {
            "python": "3.11",
            "platform": "Linux",
            "versions": {"numpy": "2.4", "softcert": "9.9"},
        },
        "request": {"profile": "quick", "seed": 0, "ops": ["softmax"], "dtypes": ["float64"], "clauses": []},
        "verdicts": verdicts,
        "speed": (
            {
                "op": "softmax",
                "dtype": "float32",
                "shape": [8, 16],
                "seconds": 1e-5,
                "spread": [9e-6, 1.1e-5],
                "bytes_per_second": 1e9,
                "copy_bytes_per_second": None,
            },
        ),
        "seconds": 2.5,
    }
    return Run(**(fields | changes))


# --- arrays ---


@pytest.mark.parametrize("name", FLOATS)
def test_every_bit_pattern_of_every_format_survives(name):
    dtype = dtype_of(name)
    if dtype.itemsize <= 2:
        patterns = np.arange(256**dtype.itemsize, dtype=f"uint{8 * dtype.itemsize}")
    else:
        random = np.random.default_rng(3)
        patterns = random.integers(0, 2 ** (8 * dtype.itemsize), 4000, dtype=f"uint{8 * dtype.itemsize}")
        special = np.array([0, -0.0, 1, np.inf, -np.inf, np.nan, -np.nan], dtype=dtype).view(patterns.dtype)
        patterns = np.concatenate([patterns, special, special + 1])
    array = patterns.view(dtype)
    document = json.loads(json.dumps(array_to_json(array), allow_nan=False))
    assert bits(array_from_json(document)) == bits(array)
    # Anyone's reader of hexadecimal floats takes every entry, NaNs with payloads included.
    assert all(isinstance(float.fromhex(number), float) for number in document["hex"])


@given(st.lists(st.floats(width=32), max_size=6))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_drawn_floats_survive(values):
    array = np.array(values, dtype=np.float32)
    assert bits(array_from_json(array_to_json(array))) == bits(array)


def test_plain_nans_need_no_extra_field():
    document = array_to_json(np.array([np.nan, -np.nan, -0.0], dtype=np.float32))
    assert document == {"dtype": "float32", "shape": [3], "hex": ["nan", "-nan", "-0x0.0p+0"]}


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3), (1, 1, 4)])
def test_every_shape_survives(shape):
    array = np.arange(math.prod(shape), dtype=np.float16).reshape(shape)
    assert bits(array_from_json(array_to_json(array))) == bits(array)


def test_any_layout_is_written_in_c_order():
    array = np.arange(6.0).reshape(2, 3).T[::-1]
    assert bits(array_from_json(array_to_json(array))) == bits(np.ascontiguousarray(array))


@pytest.mark.parametrize(
    "dtype", ["int64", "bool", "complex64", "longdouble", "uint8", "U3", "i4,f8", ">c16"]
)
def test_wrong_dtypes_survive_too(dtype):
    array = np.ones((2, 2), dtype=np.dtype(dtype))
    back = array_from_json(json.loads(json.dumps(array_to_json(array))))
    if array.dtype.names is None:
        assert back.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(back, array)
    else:
        assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({"dtype": "float32", "shape": [2], "hex": ["0x1p+0"]}, "needs 2 numbers, and 1 are there"),
        ({"dtype": "float16", "shape": [1], "hex": ["0x1.0000001p+0"]}, "float16 does not hold the number"),
        ({"dtype": "float32", "shape": [1], "hex": ["0x1p+200"]}, "float32 does not hold the number"),
        ({"dtype": "float64", "shape": [1], "hex": ["0x1p+99999"]}, "not a hexadecimal float"),
        ({"dtype": "float31", "shape": [1], "hex": ["0x1p+0"]}, "'float31' is not one of"),
        ({"dtype": "int32", "shape": [2], "bytes": "0000"}, "does not fit 2 bytes"),
        ({"dtype": "nothing", "shape": [2], "bytes": "0000"}, "cannot be read"),
        ({"dtype": "object", "shape": [0], "bytes": ""}, "does not fit"),
        (
            {"dtype": "float32", "shape": [1], "hex": ["0x1p+0"], "nan_bits": {"0": "0x7fc00001"}},
            "holds no NaN",
        ),
        ({"dtype": "float32", "shape": [1], "hex": ["nan"], "nan_bits": {"3": "0x7fc00001"}}, "holds no NaN"),
        ({"dtype": "float32", "shape": [1], "hex": ["nan"], "nan_bits": {"0": "0x3f800000"}}, "is not a NaN"),
        ({"dtype": "float16", "shape": [1], "hex": ["nan"], "nan_bits": {"0": "0x7fc00001"}}, "more bits"),
    ],
)
def test_arrays_that_contradict_themselves(document, part):
    with pytest.raises(ArrayError, match=part):
        array_from_json(document)


def test_python_objects_have_no_bits():
    with pytest.raises(ArrayError, match="no bits"):
        array_to_json(np.array([object()]))


# --- documents ---


def same(one, other):
    """Compare trees of dataclasses, mappings and arrays, NaN equal to NaN, arrays bit by bit."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and bits(one) == bits(other)
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(same(getattr(one, f), getattr(other, f)) for f in vars(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def test_run_survives_its_file(tmp_path):
    run = make_run()
    path = write_document(run_to_json(run), tmp_path / "run.json")
    assert same(read_run(path), run)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_witness_survives_its_file(tmp_path, dtype):
    with np.errstate(all="ignore"):
        x = np.array([0.0, -0.0, 1e-45, 1e-7, -np.inf, np.inf, np.nan, 1.0]).astype(dtype_of(dtype))
    witness = make_witness(x, dtype=dtype)
    path = write_document(witness_to_json(witness), tmp_path / "witness.json")
    assert same(read_witness(path), witness)


@pytest.mark.parametrize("op", OPS)
def test_a_witness_of_every_op_survives_its_file(tmp_path, op):
    """Classes and the paths of trees are integers."""
    call = harmless_call(op, "float32")
    witness = replace(make_witness(), op=op, trial=Trial((call,)), replies=(Output(call.operands[:1]),))
    path = write_document(witness_to_json(witness), tmp_path / "witness.json")
    assert same(read_witness(path), witness)


def test_report_survives_its_file(tmp_path):
    runs = (make_run(), make_run(name="other", verdicts=()))
    path = write_document(report_to_json(runs), tmp_path / "report.json")
    assert same(read_report(path), runs)


def test_failures_and_findings_without_numbers_survive():
    finding = Finding(0, None, "softmax(x)", None, "killed by signal 11", None, None, "it crashed")
    witness = make_witness(replies=(Failure("crash", "signal 11"),), finding=finding)
    assert same(witness_from_json(json.loads(dumps(witness_to_json(witness)))), witness)


def test_a_reply_without_bits_is_a_failure_and_loses_no_run():
    witness = make_witness(replies=(Output((np.array([object()]),)),))
    assert witness_to_json(witness)["replies"][0]["failure"] == "output"


def test_numpy_scalars_and_tuples_become_plain_json():
    trial = Trial(
        (Call("softmax", (np.ones(2),), {"axis": np.int64(-1), "beta": np.float64("inf")}),),
        {
            "permutation": (np.int64(1), 0),
            "shift": np.float32(0.5),
            "rows": np.arange(2),
            "set": {2, 1},
            "flag": True,
        },
    )
    document = witness_to_json(make_witness(trial=trial))
    validate(document, "witness")
    back = witness_from_json(json.loads(dumps(document))).trial
    assert back.calls[0].params == {"axis": -1, "beta": math.inf}
    assert back.relation == {"permutation": [1, 0], "shift": 0.5, "rows": [0, 1], "set": [1, 2], "flag": True}


def test_documents_are_strict_json_without_nan_tokens():
    text = dumps(run_to_json(make_run()))
    assert text.endswith("}\n")
    json.loads(text, parse_constant=pytest.fail)
    document = json.loads(text)
    assert document["verdicts"][1]["bound_ulp"] == "inf"
    assert document["verdicts"][1]["error_ulp"] == {"max": [0.0, "inf"], "mean": "nan"}
    assert document["softcert"] == "9.9"


@pytest.mark.parametrize("kind", ["run", "report", "witness"])
def test_schemas_are_schemas_with_descriptions(kind):
    document = schema(kind)
    Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all("description" in part for part in document["$defs"].values() if "properties" in part)


def test_witnesses_in_runs_are_held_to_their_schema():
    document = run_to_json(make_run())
    document["verdicts"][0]["witness"]["finding"]["exact"] = ["0.1"]
    with pytest.raises(RequestError, match=r"valid run: at .*witness"):
        validate(document, "run")


def test_long_witnesses_are_validated_in_little_time():
    import time

    document = witness_to_json(make_witness(np.linspace(0, 1, 131072)))
    begin = time.process_time()
    validate(document, "witness")
    assert time.process_time() - begin < 2.0
    document["trial"]["calls"][0]["operands"][0]["hex"][70000] = "0.1"
    with pytest.raises(RequestError):
        validate(document, "witness")


def edited(edit):
    document = run_to_json(make_run())
    edit(document)
    return document


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (lambda d: d.pop("verdicts"), "'verdicts' is a required property"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d.update(schema=2), "has schema 2, and this softcert reads schema 1"),
        (lambda d: d.update(schema=True), "has schema True"),
        (lambda d: d.pop("schema"), "has no schema number"),
        (lambda d: d.update(kind="witness"), "holds a witness, not a run"),
        (
            lambda d: d["verdicts"][0].update(status="passed"),
            r"\$\.verdicts\[0\]\.status, 'passed' is not one of",
        ),
        (lambda d: d["verdicts"][2].update(grade="D"), r"\$\.verdicts\[2\]\.grade"),
        (lambda d: d["verdicts"][0].update(cases=-1), r"\$\.verdicts\[0\]\.cases"),
        (lambda d: d["verdicts"][0].update(margin="big"), r"\$\.verdicts\[0\]\.margin"),
        (lambda d: d["request"].pop("seed"), r"\$\.request, 'seed'"),
        (lambda d: d["verdicts"][0].update(clause="nogroup"), r"\$\.verdicts\[0\]\.clause"),
        (lambda d: d["verdicts"][0]["controls"].update(zeros="maybe"), r"controls\.zeros"),
        (
            lambda d: d["verdicts"][0]["witness"]["trial"]["calls"][0]["operands"][0].update(shape=[5]),
            "needs 5 numbers, and 6 are there",
        ),
        (
            lambda d: d["verdicts"][0]["witness"]["trial"]["calls"][0]["operands"][0].update(dtype="float32"),
            "float32 does not hold",
        ),
    ],
)
def test_wrong_runs_say_where_in_one_sentence(tmp_path, edit, part):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(edited(edit)))
    with pytest.raises(RequestError, match=part) as raised:
        read_run(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"", "is not JSON: Expecting value at line 1, column 1"),
        (b'{"a": 1,\n}', "line 2, column 1"),
        (b'{"a": NaN}', "the token NaN is not JSON"),
        (b'{"a": 1e999}', "1e999 is beyond binary64"),
        (b'{"a": 1, "a": 2}', "key 'a' appears twice"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"[1]", "holds no JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "not strict JSON"),
    ],
)
def test_files_that_are_not_strict_json(tmp_path, text, part):
    path = tmp_path / "file.json"
    path.write_bytes(text)
    for read in (read_run, read_witness, read_report):
        with pytest.raises(RequestError, match=part) as raised:
            read(path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["absent.json", ".", "a\0b"])
def test_unreadable_paths(tmp_path, name):
    with pytest.raises(RequestError, match="cannot read"):
        read_run(f"{tmp_path}/{name}")


def test_run_from_json_names_its_source():
    with pytest.raises(RequestError, match=r"^stdin has schema 3"):
        run_from_json({"schema": 3}, "stdin")


# --- writing ---


def test_writing_replaces_whole_files_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "deep" / "er" / "run.json"
    write_text(path, "one")
    path.chmod(0o640)
    write_text(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


def test_unwritable_places_end_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "run.json", tmp_path / "folder", tmp_path / "a\0b"):
        with pytest.raises(RequestError, match="cannot write") as raised:
            write_document({}, path)
        assert "\n" not in str(raised.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_lone_surrogates_do_not_stop_a_file(tmp_path):
    run = make_run(name="bad\udc80name", verdicts=())
    assert read_run(write_document(run_to_json(run), tmp_path / "run.json")).name == "bad\udc80name"
