"""Every command that a page shows is run, or named below with the reason why not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

#: What is not run, by how the command begins, and why.
NOT_RUN = {
    "python3 -m venv": "installs from the network",
    ".venv/bin/pip install": "installs from the network",
    "pip install": "installs from the network",
    "source .venv/bin/activate": "belongs to the environment that is not made here",
    "nox -s gpu": "needs a GPU",
    "nox -s published": "installs every listed library, and takes more than an hour",
    "PYTHONPATH=src python -m pytest --noconftest -m gpu": "needs a GPU",
    "PYTHONPATH=src python benchmarks/gpu_kernels.py": "needs a GPU",
    "python -m softcert.backends.triton_.ahead_of_time": "minutes; test_triton_compiled.py does it",
    "softcert judge softmax.results --more": "offered where a clause is broken; tests/test_cli_exchange.py",
    "softcert run kernel.py:my_softmax --cases second.cases": "the same",
    "softcert judge softmax.results second.results": "the same",
    "softcert infer kernel.py:softmax": "a minute; tests/test_cli_infer.py",
    "softcert report triton ": "needs a GPU",
    "softcert check triton --op": "needs a GPU",
    "softcert check kernel.py:my_softmax --op softmax --dtype bfloat16": "needs a GPU",
    "softcert campaign watch": "serves until Ctrl-C; tests/test_cli_campaign.py",
    "softcert backends": "lists what the machine has; tests/test_cli.py",
    "softcert check fastkernels": "needs the line before it; run below, where the package is installed",
    "softcert reproduce fa3-table3": "half a minute; a smaller one is run on the same page",
}
#: Commands that end with another status than 0, since what they judge is broken.
BREAKS = {
    "softcert replay WITNESS.json": 1,
}
#: What has to be there before a page's commands.
BEFORE = {
    "docs/explanation/clauses.md": (
        "softcert check numpy-naive --op softmax --dtype float32 --clause stability.magnitude "
        "--profile smoke --save-witnesses w; cp w/*.json WITNESS.json && cp WITNESS.json WITNESS_OR_RUN.json"
    ),
    "docs/how-to/gate-your-kernel.md": "softcert gate --update-baseline",
}
#: Programs and libraries that a machine may lack; a command that holds the word is then left out.
OPTIONAL = {
    "gcc": "gcc",
    "rustc": "rustc",
    "libkernel.so": "rustc",
    "node": "node",
    "jax.nn": "jax",
    "--scheduler": "distributed",
    "certify.py": "sklearn",
}
SLOW = {"docs/how-to/bring-your-kernel.md"}


class Shown(NamedTuple):
    """A command on a page, and whether tests/test_docs.py runs it and compares what it prints."""

    command: str
    compared: bool


def shown(text):
    """Commands of the blocks without a language, one a line, and of console blocks, behind `$ `."""
    block = re.compile(r"(<!-- run -->\n)?^```(console|sh|)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    # Blocks of other languages go first, lest the end of one be read as a beginning.
    text = re.sub(r"^```(?!console|sh)\w+\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for mark, language, body in block.findall(text):
        for line in body.splitlines():
            if language == "console" and not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ").strip()
            if command:
                # test_docs.py runs the commands of softcert alone.
                yield Shown(command, bool(mark) and command.startswith("softcert "))


def beginning(command, table):
    return next((start for start in table if command.startswith(start)), None)


def to_run(page):
    commands = shown(page.read_text(encoding="utf-8"))
    return [c.command for c in commands if not c.compared and beginning(c.command, NOT_RUN) is None]


def quick(command):
    """The command in the profile of seconds, on clauses that speak of every op, in the fewest rounds."""
    if command.startswith("softcert check"):
        command = re.sub(r" --(?:profile|clause) \S+", "", command) + " --profile smoke --clause determinism"
    if command.startswith("softcert report"):
        command += " --clause logistic"
    if command.startswith("softcert bench"):
        command += " --rounds 2"
    return re.sub(r"--evaluations \d+", "--evaluations 40", command)


def place(page, folder):
    """Lay the page's files, the kernel of the tutorial, the examples and the tools into a folder."""
    for source in (ROOT / "docs" / "tutorial.md", page):
        marked = re.findall(
            r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", source.read_text(encoding="utf-8"), re.DOTALL
        )
        for name, text in marked:
            if source == page or name == "kernel.py":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
    for example in ROOT.glob("docs/examples/*/*"):
        shutil.copy(example, folder)
    (folder / "tools").symlink_to(ROOT / "tools")
    programs = folder / "programs"
    programs.mkdir()
    for name, words in (("softcert", "-m softcert"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    return programs


def runner(folder, programs, **variables):
    """What runs a command in a folder as a user would who has softcert installed."""
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "BROWSER": "true",  # what --open opens the page with
        "GITHUB_ACTIONS": "",  # the page of the job is not for these gates
        **variables,
    }

    def run(command):
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def lacks(command):
    needed = {what for word, what in OPTIONAL.items() if word in command}
    return {what for what in needed if shutil.which(what) is None and find_spec(what) is None}


WITH_COMMANDS = [
    pytest.param(page, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for page in PAGES
    if to_run(page)
    for name in [str(page.relative_to(ROOT))]
]


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_do_what_it_says(page, tmp_path):
    # A folder below, since a command may make another one beside it.
    folder = tmp_path / "here"
    folder.mkdir()
    run = runner(folder, place(page, folder))
    before = BEFORE.get(str(page.relative_to(ROOT)))
    if before is not None:
        run(before)
    left_out = set()
    for command in to_run(page):
        if lacks(command):
            left_out |= lacks(command)
            continue
        done = run(quick(command))
        wanted = BREAKS.get(beginning(command, BREAKS), 0)
        # A replay of the same witness for another subject holds.
        if " --subject " in command:
            wanted = 0
        assert done.returncode == wanted, f"{quick(command)}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    if left_out:
        pytest.skip(f"without {', '.join(sorted(left_out))}; everything else was run")


def test_no_reason_is_left_over():
    """What pages no longer show is no longer excused."""
    commands = [c.command for page in PAGES for c in shown(page.read_text(encoding="utf-8"))]
    for start in (*NOT_RUN, *BREAKS):
        assert any(command.startswith(start) for command in commands), start
    assert {str(page.relative_to(ROOT)) for page in PAGES} >= {*BEFORE, *SLOW}


def test_the_action_does_what_the_tutorial_says(tmp_path):
    """What a job would run, by the inputs of the tutorial's workflow, where the kernel is the broken one."""
    tutorial = ROOT / "docs" / "tutorial.md"
    programs = place(tutorial, tmp_path)
    action = (ROOT / "action.yml").read_text(encoding="utf-8")
    inputs = dict(re.findall(r"^  ([\w-]+):\n    description: .+\n    default: (\S+)$", action, re.MULTILINE))
    inputs = {name: value.strip('"') for name, value in inputs.items()}
    workflow = (tmp_path / ".github" / "workflows" / "softcert.yml").read_text(encoding="utf-8")
    (given,) = re.findall(r"uses: OWNER/softcert@COMMIT\n +with:\n((?: {10}.+\n)+)", workflow)
    inputs |= (given := dict(re.findall(r'^ +([\w-]+): "?([^"\n]+)"?$', given, re.MULTILINE)))
    assert given.keys() <= inputs.keys() == set(re.findall(r"inputs\.([\w-]+)", action))
    assert f"path: {inputs['witnesses']}\n" in workflow

    variables = {
        variable: inputs[name] for variable, name in re.findall(r"(\w+): \$\{\{ inputs\.([\w-]+) }}", action)
    }
    page = tmp_path / "page.md"
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    run = runner(tmp_path, programs, **variables, **github)
    _, step = re.findall(r"^      run: (.+)$", action, re.MULTILINE)
    assert run("softcert gate --update-baseline").returncode == 0
    *_, broken, _ = re.findall(
        r"<!-- file: kernel.py -->\n```python\n(.*?)```", tutorial.read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "kernel.py").write_text(broken, encoding="utf-8")
    done = run(step)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "# softcert gate is broken" in page.read_text(encoding="utf-8")
    assert (tmp_path / inputs["junit"]).is_file()
    assert (tmp_path / inputs["witnesses"] / "simplex.range-softmax-float32.json").is_file()


def test_the_backend_of_the_page_is_one_once_it_is_installed(tmp_path):
    """Installed as pip leaves it: the module, and the metadata with its entry point."""
    place(ROOT / "docs" / "how-to" / "write-a-backend.md", tmp_path)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = tmp_path / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = (
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    )
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{tmp_path}"}
    for words in (["backends"], ["check", "fastkernels", "--profile", "smoke", "--clause", "logistic"]):
        done = subprocess.run(
            [sys.executable, "-m", "softcert", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "fastkernels" in done.stdout
