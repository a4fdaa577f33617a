"""Libraries and commands of other languages get true verdicts; the examples of the docs conform."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

import softcert
from softcert.backends import Limits, include_folder
from softcert.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
#: Each example: the program that it needs, the line that makes it, and the subject then.
MADE = {
    "c/fast.c": ("gcc", "gcc -O2 -shared -fPIC -I{include} -o libfast.so {source} -lm", "{here}/libfast.so"),
    "rust/kernel.rs": (
        "rustc",
        "rustc --crate-type cdylib -O -o libkernel.so {source}",
        "{here}/libkernel.so",
    ),
    "command/kernel.c": ("gcc", "gcc -O2 -o kernel {source} -lm", "command:{here}/kernel"),
    "command/kernel.js": ("node", "", "command:node {source}"),
}

#: How the softmax of fast.c begins.
FIRST = "if (beta != 1.0)"
#: And that of kernel.js.
ROWS = "const [rows, n] = shape;"


@cache
def _runs(program):
    """Whether a compiler or interpreter is there; a manager of toolchains may stand for one without any."""
    if shutil.which(program) is None:
        return False
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def make(tmp_path):
    """Subject of an example, its source changed."""

    def built(example, old="", new="", options=""):
        program, line, subject = MADE[example]
        if not _runs(program):
            pytest.skip(f"{program} does not run here")
        text = (EXAMPLES / example).read_text()
        assert old in text
        source = tmp_path / Path(example).name
        source.write_text(text.replace(old, new) if old else text)
        facts = {"include": include_folder(), "source": source, "here": tmp_path}
        if line:
            command = [*line.format(**facts).split(), *options.split()]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return subject.format(**facts)

    return built


def verdicts(subject, clauses, op="softmax"):
    limits = Limits(seconds=1.0)
    run = softcert.check(
        subject, op=op, dtypes=["float32"], clauses=clauses, profile="smoke", seed=0, limits=limits
    )
    return {v.clause: v for v in run.verdicts}


@pytest.mark.parametrize("example", MADE)
def test_the_examples_hold_some_clauses(make, example):
    found = verdicts(make(example), ["logistic", "purity.side-effects", "stability.plus-inf"])
    assert {v.status for v in found.values()} == {"pass"}


@pytest.mark.slow
@pytest.mark.parametrize("example", MADE)
def test_the_examples_conform(make, example):
    run = softcert.check(make(example), profile="smoke", seed=0)
    assert run.conforms, run.broken


@pytest.mark.parametrize(
    ("old", "new", "options", "clause", "status", "words"),
    [
        ("y[i] /= sum", "y[i] /= sum * (T)1.001", "", "simplex.sum", "fail", "sum to 0.999"),
        ("i < n; i++) sum", "i < n - 1; i++) sum", "", "simplex.range", "fail", "nan"),
        ("", "", "-ffast-math", "purity.side-effects", "fail", "flushing subnormals"),
        (FIRST, f"((float *)x)[0] = 0; {FIRST}", "-w", "purity.side-effects", "fail", "input array"),
        (FIRST, f"((char *)y)[-1] = 0; {FIRST}", "", "purity.side-effects", "fail", "outside the memory"),
        (FIRST, f"((char *)y)[rows * n * 4] = 0; {FIRST}", "", "logistic", "error", "SIGSEGV"),
        (FIRST, f"if (n == 2) *(volatile int *)0 = 1; {FIRST}", "", "logistic", "error", "SIGSEGV"),
        (FIRST, f"if (n == 2) return 77; {FIRST}", "", "logistic", "error", "status 77"),
        (FIRST, f"while (n == 2) {{}} {FIRST}", "", "logistic.two-classes", "error", "no result"),
    ],
)
def test_broken_libraries(make, old, new, options, clause, status, words):
    found = verdicts(make("c/fast.c", old, new, options), [clause])
    broken = [v for v in found.values() if v.status in ("fail", "error")]
    assert broken
    assert all(v.status == status for v in broken)
    assert any(words in v.message for v in broken), [v.message for v in broken]
    assert all(v.witness is not None for v in broken)


@pytest.mark.parametrize(
    ("old", "new", "clause", "status", "words"),
    [
        ("reduce((a, b) => a + b, 0)", "reduce((a, b) => a + b, 1)", "simplex.sum", "fail", ""),
        (ROWS, f'{ROWS} console.log("hello");', "logistic", "error", "wrote b'hello"),
        (ROWS, f"{ROWS} null.x;", "logistic", "error", "exited with status 1"),
        (ROWS, f"{ROWS} process.abort();", "logistic", "error", "SIGABRT"),
    ],
)
def test_broken_commands(make, old, new, clause, status, words):
    found = verdicts(make("command/kernel.js", old, new), [clause])
    broken = [v for v in found.values() if v.status in ("fail", "error")]
    assert broken
    assert all(v.status == status for v in broken)
    assert any(words in v.message for v in broken), [v.message for v in broken]


def test_the_smallest_library_of_the_docs(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    page = (EXAMPLES.parent / "how-to" / "bring-your-kernel.md").read_text()
    (text,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    (tmp_path / "fast.c").write_text(text)
    (line,) = re.findall(r"^gcc .*libfast.so .*$", page, re.MULTILINE)
    command = line.replace('"$(softcert backends --include)"', str(include_folder())).split()
    subprocess.run([*command, "-Wall", "-Wextra", "-Werror"], cwd=tmp_path, check=True)
    found = verdicts(str(tmp_path / "libfast.so"), ["logistic", "simplex.sum"])
    assert {v.status for v in found.values()} == {"pass"}


def test_a_result_replaces_no_file_of_a_command(make):
    subject = make("command/kernel.js")
    source = subject.partition(" ")[2]
    done = CliRunner().invoke(main, ["check", subject, "--json", source])
    assert done.exit_code == 2
    assert "is read by this run" in done.stderr


def test_the_folder_of_the_header_is_told():
    done = CliRunner().invoke(main, ["backends", "--include"])
    assert (Path(done.stdout.strip()) / "softcert_backend.h").is_file()
