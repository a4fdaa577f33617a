"""A document as one HTML page in the style of the report: it holds everything, and fetches nothing."""

from __future__ import annotations

from softcert.reports.document import SYMBOLS, Document
from softcert.reports.templating import environment, markup, template


def document_html(document: Document, *, refresh: int | None = None) -> str:
    """Return a document as a page.

    Parameters
    ----------
    refresh : seconds after which a browser asks for the page again; None is never.

    Raises
    ------
    RequestError : jinja2 is not installed.
    """
    page: str = (
        environment()
        .get_template("document.html.j2")
        .render(
            title=document.title,
            headline=document.headline,
            sections=document.shown,
            symbols=SYMBOLS,
            style=markup(template("style.css") + template("document.css")),
            markup=markup,
            refresh=refresh,
        )
    )
    return page
