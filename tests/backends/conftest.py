"""Hostile subjects: their sources, what they need on the machine, and what they must not leave there."""

import os
import shutil
import subprocess
import tempfile
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

SUBJECT = (Path(__file__).parent / "hostile_subject.py").read_text()
#: As a library that is linked with -ffast-math does it when it is loaded, or when it is asked to.
FAST_MATH = """
#include <xmmintrin.h>
__attribute__((constructor)) void set_fast_math(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
"""


def hostile_source(act, top=""):
    """The sound subject with another body of `act`, and more that is run when it is loaded."""
    body = textwrap.indent(act.strip(), "    ")
    before, after = SUBJECT.split("    return honest()  # the act\n")
    return f"{before}{body}\n{after}\n{top}\n"


def left_running(mark, held):
    """Processes that have a mark in their environment or on their command line, or inherited an open file."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            line = process.cmdline()
            inherited = held in {str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}
            if inherited or mark in process.environ().values() or mark in " ".join(line):
                found.append(f"{process} {line}")
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="session")
def fast_math(tmp_path_factory):
    """Path of a library that flushes subnormals to zero, empty where none can be made."""
    if shutil.which("gcc") is None:
        return ""
    folder = tmp_path_factory.mktemp("fast-math")
    (folder / "fast.c").write_text(FAST_MATH)
    made = subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", folder / "fast.so", folder / "fast.c"],
        check=False,
        capture_output=True,
    )
    return str(folder / "fast.so") if made.returncode == 0 else ""


@pytest.fixture
def zoo(tmp_path, monkeypatch, fast_math):
    """Where a hostile subject lives; fails the test that leaves a process or a file behind."""
    mark = f"zoo-{tmp_path.parent.name}-{tmp_path.name}"
    sleeper, temporary = tmp_path / mark, tmp_path / "temporary"
    sleeper.symlink_to("/bin/sleep")
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    environment = {
        "ZOO": mark,
        "ZOO_SLEEPER": str(sleeper),
        "ZOO_SHARED": mark,
        "ZOO_FAST_MATH": fast_math,
        "TMPDIR": str(temporary),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def subject(act, top="", name="kernel.py"):
        path = tmp_path / name
        path.write_text(hostile_source(act, top))
        return str(path)

    held = tmp_path / "held"
    held.touch()
    # A fork has it open too; what is executed is known by its environment or command line.
    with held.open():
        yield SimpleNamespace(subject=subject, fast_math=fast_math)
        end = time.monotonic() + 2
        while (running := left_running(mark, str(held))) and time.monotonic() < end:
            time.sleep(0.02)
    assert running == []
    assert list(temporary.iterdir()) == []
    assert [path for path in Path("/dev/shm").iterdir() if mark in path.name] == []
