"""The docs agree with the code: links lead somewhere, pages are fresh, shown commands do as shown."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from click import Group
from click.testing import CliRunner

from softcert.backends import load
from softcert.backends.contract import Contract
from softcert.backends.ops import DTYPES, OPS
from softcert.cli import main
from softcert.conformance import CLAUSES

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name(path):
    return str(path.relative_to(ROOT))


# --- links ---


def headings(page):
    """The anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked), target


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert {name(page) for page in PAGES} <= {name(page) for page in reached}


# --- commands ---


def scripts():
    """Pages with blocks to be run: ("file", name, text), ("run", command, expected output) and Python."""
    found = []
    for page in PAGES:
        steps = []
        text = page.read_text(encoding="utf-8")
        marked = r"<!-- (file: \S+|run|python) -->\n```\w+\n(.*?)```"
        for mark, block in re.findall(marked, text, re.DOTALL):
            if mark == "python":
                steps.append(("python", block, ""))
            elif mark == "run":
                steps += [
                    ("run", *step)
                    for step in re.findall(r"^\$ (softcert .+|echo \$\?)\n((?:(?!\$ ).*\n)*)", block, re.M)
                ]
            else:
                steps.append(("file", mark.removeprefix("file: "), block))
        if steps:
            found.append(pytest.param(steps, id=name(page)))
    return found


@pytest.mark.parametrize("steps", scripts())
def test_shown_commands_print_what_is_shown(steps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)  # the page of the job is not for these gates
    matches = doctest.OutputChecker().check_output
    status = 0
    for kind, first, second in steps:
        if kind == "file":
            Path(first).parent.mkdir(parents=True, exist_ok=True)
            Path(first).write_text(second, encoding="utf-8")
            continue
        if kind == "python":
            exec(first, {})
            continue
        if first == "echo $?":
            assert second == f"{status}\n"
            continue
        result = CliRunner().invoke(main, shlex.split(first)[1:])
        status = result.exit_code
        assert status in (0, 1), result.stderr
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert matches(second, result.stdout, options), f"{first}\n{result.stdout}\nshown:\n{second}"


def test_every_option_in_the_docs_exists():
    """Also those in blocks that are not run."""
    for page in PAGES:
        blocks = "\n".join(re.findall(r"```.*?```", page.read_text(encoding="utf-8"), re.DOTALL))
        for line in re.findall(r"^(?:\$ )?softcert (.+)$", blocks, re.MULTILINE):
            words = shlex.split(line, comments=True)
            if words[0].startswith("-"):
                continue
            command = main.commands[words[0]]
            if isinstance(command, Group):
                command = command.commands[words[1]]
            options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
            assert {w for w in words if w.startswith("--")} <= options, line


def shown_commands():
    """Every `softcert` command in a block of any page, as its words."""
    for page in PAGES:
        blocks = "\n".join(re.findall(r"```.*?```", page.read_text(encoding="utf-8"), re.DOTALL))
        for line in re.findall(r"^(?:\$ )?softcert (.+)$", blocks, re.MULTILINE):
            yield shlex.split(line, comments=True)


def shown_subjects():
    """The files among the subjects of the commands shown, with the one op asked for."""
    found = set()
    for name, *words in shown_commands():
        if name in ("check", "report"):
            given = main.commands[name].make_context(name, words).params
            subjects = [given["subject"]] if name == "check" else given["subjects"]
            only = given["ops"][0] if len(given["ops"]) == 1 else None
            found |= {(subject, only) for subject in subjects if ".py" in subject}
    return sorted(found, key=str)


@pytest.mark.parametrize(("subject", "op"), shown_subjects())
def test_every_subject_in_the_docs_is_one(subject, op, tmp_path, monkeypatch):
    """Also those in blocks that are not run: with the kernel of the tutorial, they can be loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    *_, kernel = re.findall(r"<!-- file: kernel.py -->\n```python\n(.*?)```", tutorial, re.DOTALL)
    Path("kernel.py").write_text(kernel, encoding="utf-8")
    assert load(subject, op).ops


def test_every_clause_in_the_docs_exists():
    ids = {clause.id for clause in CLAUSES}
    groups = "|".join({clause.group for clause in CLAUSES})
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.findall(rf"\b(?<!/)(?:{groups})\.(?!py\b|md\b)[a-z]+(?:-[a-z]+)*", text):
            # A witness file is called by its clause, op and dtype.
            assert found in ids or any(found.startswith(f"{known}-") for known in ids), f"{page}: {found}"


def test_the_contract_in_the_docs_is_one():
    page = (ROOT / "docs" / "how-to" / "write-a-contract.md").read_text(encoding="utf-8")
    (declared,) = re.findall(r"<!-- file: contract.toml -->\n```toml\n(.*?)```", page, re.DOTALL)
    assert Contract.from_mapping(tomllib.loads(declared)).accumulator == "float32"


# --- generated and listed ---


def test_the_specification_is_the_generated_one():
    fresh = CliRunner().invoke(main, ["spec", "--format", "markdown"])
    assert fresh.exit_code == 0
    committed = (ROOT / "docs" / "specification.md").read_text(encoding="utf-8")
    assert committed == fresh.stdout, "run: nox -s docs -- --write"


def test_every_contract_field_is_documented():
    page = (ROOT / "docs" / "how-to" / "write-a-contract.md").read_text(encoding="utf-8")
    for field in Contract().to_mapping():
        assert f"| `{field}` |" in page


def test_every_op_and_dtype_is_documented():
    page = (ROOT / "docs" / "how-to" / "check-your-function.md").read_text(encoding="utf-8")
    assert all(f"`{op}" in page for op in OPS)
    assert all(
        dtype in (ROOT / "docs" / "how-to" / "write-a-contract.md").read_text() for dtype in DTYPES[1:]
    )


def requirements():
    project = PROJECT["project"]
    declared = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        declared += [requirement for requirement in extra if not requirement.startswith("softcert")]
    return sorted({re.match(r"[\w\-]+", requirement)[0] for requirement in declared})


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_has_its_reason_its_floor_and_its_pin(requirement):
    assert f"| {requirement} |" in (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert f"{requirement}>=" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    assert re.search(rf"^{requirement.lower().replace('_', '-')}==\d", pins, re.MULTILINE)


def test_the_constraints_name_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w\-]+==[\d.]+(?:b\d+|post\d+)?", line), line
    assert "torch==2.13.0" in lines


# --- the tree ---


def test_every_folder_of_code_is_a_listed_package():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    rooms = ("reference", "backends", "conformance", "reports")
    folders = [path for room in rooms for path in (ROOT / room, *(ROOT / room).rglob("*")) if path.is_dir()]
    found = {"softcert"} | {
        ".".join(("softcert", *path.relative_to(base).parts))
        for base, paths in ((ROOT, folders), (ROOT / "src" / "softcert", [ROOT / "src" / "softcert" / "cli"]))
        for path in paths
        if any(path.glob("*.py"))
    }
    assert found == listed


def test_the_links_lead_to_the_rooms():
    for room in ("reference", "backends", "conformance", "reports"):
        link = ROOT / "src" / "softcert" / room
        assert link.is_symlink()
        assert link.resolve() == ROOT / room


def test_the_tests_of_ci_are_the_command_of_the_readme():
    """One command for newcomers and for CI, so that it cannot rot."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv .+nox$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands
    assert commands[-1] in script.splitlines()
