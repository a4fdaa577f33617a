"""The documentation site: `nox -s site` builds it from these Markdown pages and the docstrings."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

project = "softcert"
author = "The softcert developers"
project_copyright = "the softcert developers, Apache-2.0"
release = installed("softcert")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "_site.contents",
    "_site.docstrings",
    "_site.offline",
    "_site.public_names",
    "_site.real_report",
]
exclude_patterns = ["_site", "examples"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# Anchors as code hosts make them.
myst_heading_anchors = 4
suppress_warnings = [
    "myst.header",  # generated pages go from the title to a third level
]

# Single backquotes in docstrings are code.
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90
add_module_names = False
nitpicky = True
nitpick_ignore_regex = [
    # Other projects' names: their pages are on the network, and the site is built without it.
    ("py:.*", r"(numpy|np|collections|pathlib|os|fractions|types|typing|pytest|hypothesis|mpmath|flint)\..*"),
    ("py:.*", r"NDArray|ArrayLike|Fraction|Path|Mapping|Sequence|Callable|Iterable|Iterator|Any"),
    # Types in public signatures that are not themselves public.
    ("py:class", r"Bounds|Cells|Fast|Given|Names|Subject|softcert\.conformance\.expected\.Expect\w+"),
    ("py:exc", "AlteredArithmetic"),
]

html_theme = "furo"
html_title = f"softcert {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
