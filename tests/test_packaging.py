"""What is installed: public names, entry points, data files, and how little an import costs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distribution, entry_points, version
from importlib.resources import files

import pytest

import softcert

#: Libraries that `import softcert` has no business with.
HEAVY = {"numpy", "scipy", "torch", "mpmath", "sympy", "flint", "hypothesis"}
HEAVY |= {"matplotlib", "click", "rich", "pytest"}


def python(*args):
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def loaded_by(statement):
    """Names of the top-level modules that a statement loads in a fresh interpreter."""
    show = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    return set(json.loads(python("-c", f"import json, sys; {statement}; {show}")))


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import softcert", set()),
        ("import softcert; dir(softcert); softcert.__version__", set()),
        ("import softcert.pytest_plugin", {"pytest"}),
        ("import softcert.cli", {"click"}),
        ("import softcert.cli.run, softcert.backends.running", {"click", "numpy"}),
        ("import softcert.backends.types", {"numpy"}),
        ("import softcert.backends.worker", {"numpy"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement, allowed):
    assert loaded_by(statement) & HEAVY <= allowed


def test_listing_the_backends_loads_no_framework():
    loaded = loaded_by("from softcert.backends import available; available()")
    assert not loaded & {"scipy", "torch"}


def test_every_public_name_is_there():
    for name in softcert.__all__:
        assert getattr(softcert, name) is not None
        assert name in dir(softcert)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'no_such_name'"):
        softcert.no_such_name  # noqa: B018 -- the access is the test


def test_version_is_that_of_the_distribution():
    assert softcert.__version__ == version("softcert")


def test_entry_points():
    (script,) = entry_points(group="console_scripts", name="softcert")
    assert callable(script.load())
    (plugin,) = entry_points(group="pytest11", name="softcert")
    assert plugin.load().parametrize_with_clauses is softcert.parametrize_with_clauses


def test_metadata():
    metadata = distribution("softcert").metadata
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"report", "test", "torch", "peers", "all"} <= set(metadata.get_all("Provides-Extra"))


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("softcert", "py.typed"),
        ("softcert.conformance", "schemas/run-1.json"),
        ("softcert.conformance", "schemas/witness-1.json"),
        ("softcert.conformance", "schemas/exchange-1.json"),
        ("softcert.conformance", "worst/softmax-float32.json"),
    ],
)
def test_data_files_are_installed(package, name):
    assert files(package).joinpath(name).is_file()


def test_the_worst_cases_are_installed_and_read():
    from softcert.conformance.hunting.worst_cases import shipped_cases

    places = {f"{case.op}-{case.dtype}.json" for case in shipped_cases()}
    assert places == {path.name for path in files("softcert.conformance").joinpath("worst").iterdir()}
    assert len(places) > 5


def test_the_report_templates_are_installed():
    templates = files("softcert.reports").joinpath("templates")
    assert [path.name for path in templates.iterdir() if path.is_file()]


def test_python_m_is_the_command():
    assert python("-m", "softcert", "--version") == f"softcert {softcert.__version__}\n"
