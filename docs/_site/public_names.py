"""Links from types to the public names under which they are documented, and a check that none is missing."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from docutils.nodes import Element, TextElement
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

#: The modules whose `__all__` is the public interface; the first that lists a name documents it.
MODULES = (
    "softcert.reference",
    "softcert.conformance",
    "softcert.backends",
    "softcert.reports",
    "softcert",
)


def homes() -> dict[str, str]:
    """Return the public name of everything public, by that name, by where it is defined, and by bare name."""
    found: dict[str, str] = {}
    for module_name in MODULES:
        module: Any = import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            public = f"{module_name}.{name}"
            own = inspect.isclass(value) or inspect.isroutine(value)
            defined = f"{value.__module__}.{value.__qualname__}" if own else public
            home = found.setdefault(defined, public)
            found.setdefault(public, home)
            found.setdefault(name, home)
    return found


def setup(app: Sphinx) -> None:
    """Resolve what is defined elsewhere than where it is public; fail if a public name is on no page."""
    known = homes()

    def resolve(app: Sphinx, env: BuildEnvironment, node: Element, contents: TextElement) -> Element | None:
        if node.get("refdomain") != "py" or node["reftarget"] not in known:
            return None
        return env.domains.python_domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", known[node["reftarget"]], node, contents
        )

    def check(_app: Sphinx, env: BuildEnvironment) -> None:
        missing = sorted(
            set(known.values()) - set(env.domains.python_domain.objects) - {"softcert.__version__"}
        )
        if missing:
            raise ExtensionError(f"public, but on no page of the site: {', '.join(missing)}")

    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", check)
