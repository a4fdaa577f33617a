"""Accuracy reports from runs, as one page that opens offline, as Markdown, JSON and JUnit XML.

Nothing here judges: verdicts, errors, bounds and grades are shown as the runs hold them.
"""

from __future__ import annotations

from softcert.reports.html import render_html
from softcert.reports.markdown import render_markdown
from softcert.reports.write import Report, write_report

__all__ = ["Report", "render_html", "render_markdown", "write_report"]
