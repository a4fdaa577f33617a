"""A run leaves nothing in the folder that it is started from, and an own choice of folder alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import configuration

from softcert.conformance.inputs.storage import private_storage

PROGRAM = """
import softcert
softcert.check("numpy", ops="softmax", dtypes="float32", clauses="simplex.sum", profile="smoke")
"""


def test_a_run_leaves_the_current_folder_as_it_was(tmp_path):
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []


def home():
    folder = configuration.storage_directory("examples", intent_to_write=False)
    return Path(getattr(folder, "path", folder)).parent  # a Path itself in older versions


def test_the_folder_of_the_tests_around_it_is_restored(monkeypatch, tmp_path):
    monkeypatch.delenv("HYPOTHESIS_STORAGE_DIRECTORY", raising=False)
    before = vars(configuration)["__hypothesis_home_directory"]
    configuration.set_hypothesis_home_dir(tmp_path)
    try:
        with private_storage():
            inside = home()
            assert inside.is_dir()
            assert inside != tmp_path
        assert home() == tmp_path
        assert not Path(inside).exists()
    finally:
        configuration.set_hypothesis_home_dir(before)


def test_a_folder_that_the_user_chose_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", str(tmp_path))
    before = vars(configuration)["__hypothesis_home_directory"]
    configuration.set_hypothesis_home_dir(None)
    try:
        with private_storage():
            assert home() == tmp_path
    finally:
        configuration.set_hypothesis_home_dir(before)


DRAWN = """
import sys
sys.path[:0] = sys.argv[1:]
try:
    import of_my_own
except ImportError:
    pass
from hypothesis import given, seed, settings, strategies as st
from softcert.conformance.inputs.storage import fixed_draws, private_storage

seen = []

@seed(1)
@settings(max_examples=200, database=None)
@given(st.floats(-1e6, 1e6), st.integers(-10**6, 10**6))
def draw(number, count):
    seen.append((number.hex(), count))

with private_storage(), fixed_draws():
    draw()
print(hash(tuple(seen)))
"""


def test_what_is_drawn_does_not_depend_on_the_modules_that_are_loaded(tmp_path):
    numbers = ", ".join(f"{i}.{i}25" for i in range(100, 400))
    (tmp_path / "of_my_own.py").write_text(f"NUMBERS = [{numbers}]\n")

    def drawn(*folders):
        command = [sys.executable, "-c", DRAWN, *folders]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    assert drawn() == drawn(str(tmp_path))
