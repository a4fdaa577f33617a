"""The table of contents, by kind of page; the Markdown of index.md stays free of directives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: Pages of each kind, in this order; a pattern takes what nothing else names, so that a new page is in.
SECTIONS = {
    "Tutorial": ("tutorial",),
    "How-to guides": (
        "how-to/check-your-function",
        "how-to/bring-your-kernel",
        "how-to/write-a-backend",
        "how-to/check-a-c-library",
        "how-to/check-a-gpu-kernel",
        "how-to/gate-your-kernel",
        "how-to/read-a-report",
        "how-to/*",
    ),
    "Explanation": ("explanation/clauses", "explanation/enclosures", "explanation/bounds", "explanation/*"),
    "What it shows": ("api/report", "findings", "*"),
    "Reference": (
        "specification",
        "reference",
        "protocol",
        "api/command-line",
        "api/softcert",
        "api/reference",
        "api/conformance",
        "api/backends",
        "api/reports",
        "api/schemas",
        "api/*",
        "dependencies",
    ),
}


def pages_of(sections: dict[str, tuple[str, ...]], known: list[str]) -> dict[str, list[str]]:
    """Return the pages of each section: those named, and where a pattern stands those named nowhere.

    Parameters
    ----------
    sections : names of pages and patterns of them, by title.
    known : every page but the root, without suffix.
    """
    named = {name for names in sections.values() for name in names if "*" not in name}
    rest = sorted(page for page in known if page not in named)
    found = {}
    for title, names in sections.items():
        pages: list[str] = []
        for name in names:
            folder = Path(name).parent
            pages += [page for page in rest if Path(page).parent == folder] if "*" in name else [name]
        found[title] = pages
    return found


def setup(app: Sphinx) -> None:
    """Write the table of contents below the text of the first page as Sphinx reads it."""

    def append(app: Sphinx, page: str, source: list[str]) -> None:
        if page != app.config.root_doc:
            return
        known = sorted(app.env.found_docs - {page})
        trees = (
            "\n".join(("```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"))
            for title, pages in pages_of(SECTIONS, known).items()
        )
        source[0] += "\n\n" + "\n\n".join(trees) + "\n"

    app.connect("source-read", append)
