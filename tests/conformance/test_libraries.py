"""Real libraries break what `known/` says that they break, for the reasons given there, and nothing else.

It is known of the versions of constraints.txt, on a processor with AVX-512 and its products of bfloat16.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from softcert import check
from softcert.backends import available
from softcert.conformance.expected import read_expected

KNOWN = Path(__file__).with_name("known")
#: Backend, ops (None for all), dtypes, and the file of what is known to be broken, if anything is.
EXAMINED = (
    ("sklearn", None, ("float64", "float32"), "sklearn"),
    ("torch", ("cross_entropy", "cross_entropy_vjp", "gumbel_softmax"), ("float32", "bfloat16"), "torch"),
    ("optax", None, ("float32", "bfloat16"), "optax"),
    ("onnxruntime", None, ("float64", "float32", "float16"), "onnxruntime"),
    ("torch-sdpa-math", None, ("float32", "bfloat16"), None),
    ("torch-sdpa-flash", None, ("float32", "bfloat16"), "torch-sdpa-flash"),
    ("torch-flex", ("attention",), ("float32",), None),
    ("jax", ("attention",), ("float64",), "jax-float64"),
    ("jax", None, ("float32",), None),
)


def named(examined):
    name, ops, dtypes, _ = examined
    return "-".join((name, *(ops or ()), *dtypes))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ops", "dtypes", "known"), EXAMINED, ids=map(named, EXAMINED))
def test_a_library_breaks_what_is_known_and_nothing_else(name, ops, dtypes, known):
    state = available()[name]
    if not state.runs:
        pytest.skip(state.detail)
    expected = read_expected(KNOWN / f"{known}.toml") if known else None
    run = check(name, ops=ops, dtypes=dtypes, profile="smoke", expected_failures=expected, jobs=2)
    assert run.verdicts
    assert not run.broken, [(v.clause, v.op, v.dtype, v.message) for v in run.broken]


def test_every_file_of_what_is_known_is_used_and_gives_its_reasons():
    files = {path.stem for path in KNOWN.glob("*.toml")}
    assert files == {known for *_, known in EXAMINED if known}
    for name in files:
        assert all(entry.reason for entry in read_expected(KNOWN / f"{name}.toml"))
