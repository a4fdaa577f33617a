"""Docstrings of this project as reStructuredText: NumPy's sections, entries of `name : what it is`.

numpydoc and napoleon read what follows the colon as a type and link each of its words; here types live in
the signature, and what follows is prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: Sections of entries, and the field that each entry becomes.
FIELDS = {"Parameters": "param", "Attributes": "ivar", "Raises": "raises", "Yields": "yields"}
_ENTRY = re.compile(r"(?P<names>\*{0,2}\w+(?:, *\*{0,2}\w+)*) : (?P<text>.*)")
#: Two sentences of the house may stand on one line: `DomainError : no number. SubjectError : ...`.
_NEXT_RAISE = re.compile(r"(?<=[.;]) (?=[A-Z]\w*(?:Error|Rounding|Disagreement) : )")
_CODE = re.compile(r"(`+[^`]+`+)")


def sections(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Split a docstring at its underlined headings; the text before the first has the title ""."""
    title, body = "", list[str]()
    at = 0
    while at < len(lines):
        ruler = lines[at + 1] if at + 1 < len(lines) else ""
        if lines[at].strip() and re.fullmatch(r"-{3,}", ruler.strip()):
            yield title, body
            title, body = lines[at].strip(), []
            at += 2
        else:
            body.append(lines[at])
            at += 1
    yield title, body


def entries(body: list[str]) -> Iterator[str]:
    """Join the lines of each entry; an entry begins where a line is not indented."""
    joined = ""
    for line in body:
        if joined and line and not line[0].isspace():
            yield joined
            joined = ""
        joined = f"{joined} {line.strip()}".strip()
    if joined:
        yield joined


def as_rest(lines: list[str]) -> list[str]:
    """Return a docstring as reStructuredText with fields."""
    written: list[str] = []
    for title, body in sections(lines):
        if title in FIELDS:
            written += ["", *_fields(FIELDS[title], body), ""]
        elif title == "Returns":
            text = " ".join(line.strip() for line in body if line.strip())
            written += ["", f":returns: {text}", ""]
        elif title:
            written += ["", f".. rubric:: {title}", "", *body]
        else:
            written += body
    return [_escaped(line) for line in written]


def _escaped(line: str) -> str:
    """Keep the bars of an absolute value from being read as a substitution."""
    return "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in _CODE.split(line))


def _fields(field: str, body: list[str]) -> Iterator[str]:
    texts = (text for entry in entries(body) for text in _NEXT_RAISE.split(entry))
    for text in texts:
        entry = _ENTRY.fullmatch(text)
        if entry is None:
            yield f":{field}: {text}" if field == "yields" else text
            continue
        # What stands before a space in a field would be a type.
        names = entry["names"].replace(" ", "").replace("*", r"\*")
        yield f":{field} {names}: {entry['text']}"


def setup(app: Sphinx) -> None:
    """Rewrite every docstring that autodoc reads."""

    def rewrite(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
        lines[:] = as_rest(lines)

    app.connect("autodoc-process-docstring", rewrite)
