"""Python modules and files as subjects: finding them, importing them, telling what goes wrong."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from softcert.backends import registry
from softcert.backends.exception_text import describe_exception
from softcert.errors import SubjectError


def import_place(place: str) -> ModuleType:
    """Module of a dotted name or of a file.

    Raises
    ------
    SubjectError : it is not there, is no Python, or raises while it loads.
    """
    path = expanded(place)
    # What is there and has a suffix is meant as a file, k.txt too: no module is called so.
    if not (place.endswith(".py") or "/" in place or (path.suffix and path.is_file())):
        return _import_module(place)
    if path.is_dir():
        raise SubjectError(f"{place!r} is a folder, not a Python source file")
    if not path.is_file():
        raise SubjectError(f"there is no file {place!r}")
    return _import_file(path.resolve(), place)


def expanded(place: str) -> Path:
    """Path of a place, ~ taken for a home folder where there is one."""
    try:
        return Path(place).expanduser()
    except RuntimeError:  # no such user
        return Path(place)


def _import_module(name: str) -> ModuleType:
    _keep_importable(Path.cwd())
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise SubjectError(registry.unknown_name(name))
    with _import_errors_told(name):
        module = importlib.import_module(name)
    # Not inside the block, which for all that a type checker knows might swallow an exception.
    return module  # noqa: RET504 - see above


def _import_file(path: Path, place: str) -> ModuleType:
    # A name of its own: the file may well be called numpy.py or types.py.
    name = f"_softcert_subject_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SubjectError(f"{place!r} is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        with _import_errors_told(place):
            try:
                spec.loader.exec_module(module)
            except ImportError as error:
                if "relative import" not in str(error):
                    raise
                module = _import_in_package(path)
    except SubjectError:
        sys.modules.pop(name, None)
        raise
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
        # Kernels may import their neighbours only when they are called.
        _keep_importable(path.parent)
    return module


def _import_in_package(path: Path) -> ModuleType:
    """Import a file that uses relative imports as the member of its package."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    _keep_importable(folder)
    return importlib.import_module(".".join(parts))


def _keep_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@contextmanager
def _import_errors_told(place: str) -> Iterator[None]:
    """Turn whatever a module raises while it loads into one sentence."""
    try:
        yield
    except SubjectError:
        raise
    except SyntaxError as error:
        where = f" at {error.filename}:{error.lineno}" if error.lineno else ""
        raise SubjectError(f"{place} cannot be read: {type(error).__name__}{where}: {error.msg}") from error
    except BaseException as error:  # SystemExit too: the subject ends, softcert goes on
        raise SubjectError(f"{place} cannot be imported: {describe_exception(error)}") from error
