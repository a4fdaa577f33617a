"""A check of what was built: no page loads anything from another host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_LOADED = {
    ".html": re.compile(
        r"<(?:script|link|img|iframe|object)\b[^>]*?\b(?:src|href|data)=[\"']?((?:https?:)?//[^\"'> ]+)"
    ),
    ".css": re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"') ]+)"),
}


def loaded_from_elsewhere(folder: Path) -> list[str]:
    """Return `page: address` of everything that the pages of a folder would load from the network."""
    return [
        f"{path.relative_to(folder)}: {address}"
        for path in sorted(folder.rglob("*"))
        if path.suffix in _LOADED
        for address in _LOADED[path.suffix].findall(path.read_text(encoding="utf-8"))
    ]


def setup(app: Sphinx) -> None:
    """Fail a build that a reader without a network would see in parts."""

    def check(app: Sphinx, error: Exception | None) -> None:
        if error is None and (found := loaded_from_elsewhere(Path(app.outdir))):
            raise ExtensionError(f"loaded from the network: {'; '.join(found)}")

    app.connect("build-finished", check)
