"""The suite against implementations whose verdict is known: broken ones must break, correct ones conform.

A broken one is asked the clauses that name its fault, a correct one all of them.

`manifest.toml` and the manifests of families beside it say what each is. All of them take most of an hour and
are marked `slow`; the tests of every run judge a sample, each in one dtype.
`SOFTCERT_ZOO_PROFILE` chooses the profile of the checks (smoke where it is not set).
"""

import ast
import os
import tomllib
from pathlib import Path

import pytest

from softcert.backends import Limits
from softcert.backends.contract import Contract
from softcert.backends.ops import DTYPES, OPS
from softcert.conformance import check

HERE = Path(__file__).parent
PROFILE = os.environ.get("SOFTCERT_ZOO_PROFILE", "smoke")
GROUPS = {
    "accuracy",
    "any",
    "attention",
    "attention-gradient",
    "bias",
    "boltzmann",
    "cross-entropy",
    "determinism",
    "gumbel",
    "hierarchical",
    "jacobian",
    "limits",
    "logistic",
    "luce",
    "memory",
    "order",
    "permutation",
    "purity",
    "sampling",
    "simplex",
    "sparse",
    "stability",
    "translation",
}
MANIFEST = [
    entry
    for path in sorted(HERE.glob("*manifest.toml"))
    for entry in tomllib.loads(path.read_text())["implementation"]
]


def _named(entry):
    return f"{Path(entry['file']).stem}:{entry['function']}"


def _dtypes(entry):
    return entry.get("dtypes", ["float64", "float32"])


def _run(entry, dtypes):
    groups = entry.get("clause_groups", [])
    if "torch" in Path(entry["file"]).stem:
        pytest.importorskip("torch")
    declared = {"contract": Contract.from_mapping(entry["contract"])} if "contract" in entry else {}
    if Path(entry["file"]).stem == "failures":
        declared["limits"] = Limits(seconds=2.0)
    return check(
        f"{HERE / entry['file']}:{entry['function']}",
        op=entry["op"],
        dtypes=dtypes,
        profile=entry.get("profile", PROFILE),
        clauses=None if "any" in groups else groups or None,
        **declared,
    )


def _findings(run):
    return (
        "\n".join(f"{v.clause} {v.dtype} {v.status}: {v.message}" for v in run.broken) or "no broken clause"
    )


def _judge(entry, dtypes):
    run = _run(entry, dtypes)
    if entry["expect"] == "breaks":
        groups = ", ".join(entry["clause_groups"])
        assert not run.conforms, f"{groups} hold, though: {entry['note']}"
    else:
        assert run.conforms, f"{entry['note']}\n{_findings(run)}"


@pytest.mark.slow
@pytest.mark.parametrize("entry", MANIFEST, ids=_named)
def test_every_implementation_is_judged_rightly(entry):
    _judge(entry, _dtypes(entry))


@pytest.mark.parametrize("entry", [entry for entry in MANIFEST if entry.get("core")], ids=_named)
def test_the_sample_is_judged_rightly(entry):
    _judge(entry, _dtypes(entry)[-1:])


def _public_names(path):
    """Functions that the file defines, instances that it makes and names that it hands on."""
    tree = ast.parse(path.read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            names |= set(ast.literal_eval(node.value)) if name == "__all__" else {name}
    return {name for name in names if not name.startswith("_")}


def test_manifest_names_every_implementation_once():
    listed = [(entry["file"], entry["function"]) for entry in MANIFEST]
    there = {
        (f"{folder}/{path.name}", name)
        for folder in ("broken", "correct")
        for path in (HERE / folder).glob("*.py")
        if not path.stem.startswith("_")
        for name in _public_names(path)
    }
    assert len(listed) == len(set(listed))
    assert set(listed) == there


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: f"{entry['file']}:{entry['function']}")
def test_manifest_entry_is_well_formed(entry):
    known = {"file", "function", "op", "expect", "clause_groups", "dtypes", "contract", "core", "profile"}
    assert set(entry) <= known | {"note"}
    assert entry["op"] in OPS
    assert set(entry.get("dtypes", [])) <= set(DTYPES)
    assert entry["file"].startswith({"breaks": "broken/", "conforms": "correct/"}[entry["expect"]])
    assert (entry["expect"] == "breaks") == bool(entry.get("clause_groups"))
    assert set(entry.get("clause_groups", [])) <= GROUPS
    assert entry["note"]


def test_zoo_is_large_enough():
    verdicts = [entry["expect"] for entry in MANIFEST]
    assert verdicts.count("breaks") >= 190
    assert verdicts.count("conforms") >= 90
