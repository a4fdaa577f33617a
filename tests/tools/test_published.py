"""What the published report is to examine: backends that there are, at versions that are fixed."""

import runpy
from pathlib import Path

import pytest

from softcert.backends import available
from softcert.backends.ops import OPS

CONSTRAINTS = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").split()
published = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "published.py"))
ENTRIES = list(published["listed"](()))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_names_a_backend_and_one_version_of_its_library(entry):
    assert entry.backend in available()
    assert entry.version


def test_names_tell_entries_and_their_files_apart():
    assert len({entry.name for entry in ENTRIES}) == len({entry.stem for entry in ENTRIES}) == len(ENTRIES)


def test_entries_are_chosen_by_words():
    chosen = list(published["listed"](("scipy", "torch-flex")))
    assert {entry.backend for entry in chosen} == {"scipy", "torch-flex"}
    assert len(chosen) >= 2


@pytest.mark.parametrize("proof", list(published["listed_proofs"]()), ids="-".join)
def test_a_proof_is_of_an_entry_that_this_environment_has(proof):
    assert {proof.op} <= set(OPS)
    entries = [entry for entry in ENTRIES if entry.backend == proof.backend]
    assert any(f"{e.library}=={e.version}" in CONSTRAINTS for e in entries)
