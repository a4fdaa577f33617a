"""What every page is made with: the templates of this package, and how text of others becomes harmless."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from softcert.reports import wording
from softcert.reports.extras import require

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_FORMATTERS = ("printable", "number", "interval", "above", "bias", "count", "seconds")


def template(name: str) -> str:
    """Return the text of a template, style or script of this package."""
    return (files("softcert.reports") / "templates" / name).read_text(encoding="utf-8")


def markup(text: str) -> Markup:
    """Mark text of our own as HTML; everything else is escaped."""
    marked: Markup = require("markupsafe").Markup(text)
    return marked


@cache
def environment() -> Environment:
    """Return the environment in which pages are rendered: everything escaped, nothing undefined.

    Raises
    ------
    RequestError : jinja2 is not installed.
    """
    jinja2 = require("jinja2")
    made: Environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FunctionLoader(template),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({name: getattr(wording, name) for name in _FORMATTERS})
    return made
