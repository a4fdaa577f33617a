"""Every reproduction on the pages of findings prints what the page shows, with the versions it names."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from softcert.conformance import CLAUSES

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: The page whose findings clauses made, and those of which none speaks yet.
PAGE, CROSS_ENTROPY, SAMPLING = (
    (DOCS / name).read_text(encoding="utf-8")
    for name in ("findings.md", "findings-cross-entropy.md", "explanation/sampling.md")
)
_MARKED = r"<!-- finding: ([^\n]+) -->\n```python\n(.*?)```\n+```text\n(.*?)```"
FINDINGS = re.findall(_MARKED, PAGE + CROSS_ENTROPY + SAMPLING, re.DOTALL)


def require(needed):
    """Skip unless every library is here in the version that is named, and the processor has the flags."""
    for entry in needed.split(", "):
        name, _, wanted = entry.rpartition(" ")
        if not name:
            if not re.search(rf"\b{wanted}\b", Path("/proc/cpuinfo").read_text()):
                pytest.skip(f"the processor has no {wanted}")
            continue
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        if found != wanted:
            pytest.skip(f"{name} is {found}, not {wanted}")


@pytest.mark.parametrize(("needed", "program", "shown"), FINDINGS, ids=[needed for needed, *_ in FINDINGS])
def test_a_reproduction_prints_what_is_shown(needed, program, shown):
    require(needed)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == shown, done.stderr


@pytest.mark.parametrize("page", [PAGE, CROSS_ENTROPY], ids=["findings", "cross-entropy"])
def test_every_finding_has_a_reproduction(page):
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
    sections = re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]
    assert titles
    for title, section in zip(titles, sections, strict=True):
        assert re.search(_MARKED, section, re.DOTALL), title


def test_every_finding_names_its_clauses():
    ids = {clause.id for clause in CLAUSES}
    named = re.findall(r"^\| Clause \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(named) == len(re.findall(r"^## ", PAGE, re.MULTILINE))
    for line in named:
        assert set(re.findall(r"`([a-z-]+\.[a-z-]+)`", line)) <= ids
        assert re.search(r"`[a-z-]+\.[a-z-]+`", line)
