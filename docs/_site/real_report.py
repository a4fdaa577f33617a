"""A report of softcert as part of the site: the newest published one, or a small one made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
#: Folders of reports that are kept, one each; their names sort by date.
PUBLISHED = ROOT / "reports" / "published"
COMMAND = ("report", "numpy", "numpy-naive", "--op", "softmax", "--dtype", "float32", "--no-open")

log = logging.getLogger(__name__)


def newest_published() -> Path | None:
    """Return the folder of the newest report kept, if any is."""
    pages = sorted(PUBLISHED.glob("**/report.html"))
    return pages[-1].parent if pages else None


def make(folder: Path) -> None:
    """Write a small report into a folder, as a reader would.

    Raises
    ------
    ExtensionError : the report was not written.
    """
    log.info("writing a report: softcert %s", " ".join(COMMAND))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = (sys.executable, "-m", "softcert", *COMMAND, "--out", str(folder))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 -- our own
    if done.returncode:
        raise ExtensionError(f"softcert {' '.join(COMMAND)} ended with {done.returncode}: {done.stderr}")


def setup(app: Sphinx) -> None:
    """Bring a report to `report/` of the site; one that was made is kept for the next build."""
    kept = ROOT / "build" / "docs" / "extra" / "report"

    def bring(app: Sphinx) -> None:
        published = newest_published()
        if published is not None:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(published, kept)
        elif not (kept / "report.html").exists():
            make(kept)
        app.config.html_extra_path = [str(kept.parent)]

    app.connect("builder-inited", bring)
