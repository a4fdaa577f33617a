"""Kernels are kept for the sources they were compiled from, and where nobody else can write."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import softcert.reference
from softcert import kernel_cache

ROOT = Path(softcert.reference.__file__).resolve().parent
USE = (
    "import numpy as np; from softcert import reference; from softcert.reference.fast import merging;"
    "part = np.ones((2, 3)), np.zeros(2);"
    "reference.attention_merge(*part, *part, method='fast')[0].round('float64');"
    "print(sum(merging.merge.stats.cache_hits.values()), sum(merging.merge.stats.cache_misses.values()))"
)


def _used(**environment):
    done = subprocess.run(
        [sys.executable, "-c", USE],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(map(int, done.stdout.split()))


@pytest.fixture
def folder(monkeypatch):
    def ask(value):
        monkeypatch.setenv(kernel_cache.VARIABLE, value)
        kernel_cache.cache_folder.cache_clear()
        return kernel_cache.cache_folder(ROOT)

    yield ask
    kernel_cache.cache_folder.cache_clear()


def test_a_second_process_compiles_nothing(tmp_path):
    assert _used(SOFTCERT_CACHE_DIR=str(tmp_path)) == (0, 1)
    assert _used(SOFTCERT_CACHE_DIR=str(tmp_path)) == (1, 0)
    assert _used(SOFTCERT_CACHE_DIR="")[0] == 0


@pytest.mark.parametrize("changed", ["fast/double_word.py", "formats.py"])
def test_any_changed_source_is_another_folder(tmp_path, changed):
    copy = tmp_path / "reference"
    shutil.copytree(ROOT, copy)
    before = kernel_cache.digest(copy)
    assert before == kernel_cache.digest(ROOT)
    with (copy / changed).open("a") as source:
        source.write("# changed\n")
    assert kernel_cache.digest(copy) != before


def test_a_folder_that_others_can_write_is_not_used(folder, tmp_path):
    found = folder(str(tmp_path))
    found.chmod(0o777)
    assert folder(str(tmp_path)) is None
    found.chmod(0o700)
    assert folder(str(tmp_path)) == found


def test_without_a_place_nothing_is_kept(folder, tmp_path):
    (tmp_path / "file").touch()
    assert folder(str(tmp_path / "file")) is None
    assert folder("") is None
