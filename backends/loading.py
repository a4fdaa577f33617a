"""From a SUBJECT string to a Backend: registered names, modules, files, and functions in them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from softcert.backends import registry
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.adapt_attention import AdaptedAttention
from softcert.backends.contract import Contract, as_contract
from softcert.backends.ops import ATTENTION_OPS, DTYPES, OPS
from softcert.backends.rules import shown
from softcert.backends.types import Backend, Kernel
from softcert.errors import SubjectError

#: What a subject's module may say of itself, in a mapping of this name.
DECLARATION = "SOFTCERT"
_DECLARABLE = ("contract", "dtypes", "name")
#: A longer list of functions says less than its length.
_MOST_LISTED = 12


def as_subject(subject: object) -> str | Backend | Callable[..., Any]:
    """Subject from what was given: a string, also from a path; a backend; or a function.

    Raises
    ------
    SubjectError : something else.
    """
    given = os.fspath(subject) if isinstance(subject, os.PathLike) else subject
    if inspect.isclass(given):
        raise SubjectError(f"{shown(given)} is a class; give a function or an instance that can be called")
    if isinstance(given, (str, Backend)) or callable(given):
        return given
    raise SubjectError(f"a subject has to be a string, a path, a Backend or a function, not {shown(given)}")


def load(
    subject: str | os.PathLike[str],
    op: str | None = None,
    contract: Contract | Mapping[str, Any] | None = None,
) -> Backend:
    """Backend of a subject.

    Parameters
    ----------
    subject : a registered name; `package.module:function`; `path/to/file.py:function`; or a module or
        file, also as a path object, with functions that carry the op names. A function may be any
        attribute path.
    op : the op that the function computes, where its name does not say; or the one op wanted.
    contract : overrides what the subject declares; a mapping is one of the contract's fields.

    Returns
    -------
    The backend, its functions adapted to `kernel(*operands, axis=..., beta=...) -> ndarray`.

    Raises
    ------
    SubjectError : it cannot be found, imported or adapted; one sentence says why.

    Notes
    -----
    A module may declare itself: `SOFTCERT = {"dtypes": [...], "contract": {...}, "name": "..."}`.
    The subject's code is imported into this process; `Worker` does it in one of its own.
    """
    if op is not None and op not in OPS:
        raise SubjectError(f"op {op!r} is unknown; the ops are {', '.join(OPS)}")
    spec, promised = as_subject(subject), as_contract(contract)
    if not isinstance(spec, str):
        raise SubjectError(f"what is loaded has to be a string or a path, not {shown(spec)}")
    backend = _find(spec, op)
    return backend if promised is None else replace(backend, contract=promised)


def _find(subject: str, op: str | None) -> Backend:
    if not subject.strip():
        raise SubjectError(
            "the subject is empty; give a registered name, module:function or file.py:function"
        )
    place, _, attribute = subject.rpartition(":") if ":" in subject else (subject, "", "")
    if not attribute and subject in registry.names():
        return _only(registry.resolve(subject), op)
    if not place:
        raise SubjectError(f"subject {subject!r} names no module or file before the colon")
    if subject.endswith(":"):
        raise SubjectError(f"subject {subject!r} names no function after the colon")
    if ":" in place and not Path(place).exists():
        raise SubjectError(
            f"subject {subject!r} has two colons; give module:function or file.py:function, "
            "and a method as file.py:Class.method"
        )
    module = _import_place(place)
    declared = _declaration(module, place)
    if attribute:
        backend = _from_attribute(module, place, attribute, op, subject)
    else:
        backend = _only(_from_op_names(module, place, subject), op)
    assumed = "dtypes" not in declared
    return replace(backend, **{"versions": _versions(module), "assumed": assumed, **declared})


def _only(backend: Backend, op: str | None) -> Backend:
    if op is None:
        return backend
    if op not in backend.ops:
        raise SubjectError(f"backend {backend.name!r} has no {op}; it has {', '.join(sorted(backend.ops))}")
    return replace(backend, ops={op: backend.ops[op]}, beta=backend.beta and op == "softmax")


# --- finding the module -------------------------------------------------------------------------------


def _import_place(place: str) -> ModuleType:
    path = _expanded(place)
    # What is there and has a suffix is meant as a file, k.txt too: no module is called so.
    if not (place.endswith(".py") or "/" in place or (path.suffix and path.is_file())):
        return _import_module(place)
    if path.is_dir():
        raise SubjectError(f"{place!r} is a folder, not a Python source file")
    if not path.is_file():
        raise SubjectError(f"there is no file {place!r}")
    return _import_file(path.resolve(), place)


def _expanded(place: str) -> Path:
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


def describe_exception(error: BaseException, limit: int = 300) -> str:
    """One bounded line for an exception, with the place in the subject's code where it was raised."""
    try:
        words = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - a foreign __str__ may do anything
        words = "(its message cannot be printed)"
    name = type(error).__name__
    text = f"{name}: {words}" if words else name
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    place = _place_raised(error)
    return f"{text} ({place})" if place else text


def _place_raised(error: BaseException) -> str:
    own = tuple(str(Path(module).resolve().parent) for module in (__file__, importlib.__file__))
    try:
        frames = traceback.extract_tb(error.__traceback__)
    except Exception:  # noqa: BLE001 - a message without a place is better than none
        return ""
    for frame in reversed(frames):
        inside = frame.filename.startswith("<") or str(Path(frame.filename).resolve()).startswith(own)
        if not inside:
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return ""


# --- finding the functions ----------------------------------------------------------------------------


def _from_attribute(module: ModuleType, place: str, attribute: str, op: str | None, subject: str) -> Backend:
    value: Any = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            hint = f" ({place} is a registered backend too)" if place in registry.names() else ""
            there = _functions_there(value, part)
            raise SubjectError(f"{place} has no attribute {attribute!r}{hint}{there}") from None
    if isinstance(value, Backend):
        return _only(value, op)
    last = attribute.rpartition(".")[2]
    chosen = op or (last if last in OPS else None)
    if chosen is None:
        raise SubjectError(f"the op that {subject} computes must be given: one of {', '.join(OPS)}")
    kernel = _adapted(value, chosen, place, attribute)
    return Backend(name=subject, ops={chosen: kernel}, beta=kernel.beta)


def _functions_there(holder: Any, name: str) -> str:
    """Which functions a module or class has of its own, or the nearest of all that it has, as a hint."""
    functions = {
        k: v for k, v in getattr(holder, "__dict__", {}).items() if callable(v) and not k.startswith("_")
    }
    near = get_close_matches(name, functions, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    home = getattr(holder, "__name__", None)
    own = [k for k, v in functions.items() if inspect.isfunction(v) and v.__module__ == home]
    return f"; its functions are {', '.join(own)}" if 0 < len(own) <= _MOST_LISTED else ""


def _from_op_names(module: ModuleType, place: str, subject: str) -> Backend:
    kernels: dict[str, Kernel] = {}
    beta = False
    for op in OPS:
        function = getattr(module, op, None)
        if callable(function):
            kernel = _adapted(function, op, place, op)
            kernels[op] = kernel
            beta = beta or kernel.beta
    if not kernels:
        raise SubjectError(f"{place} has no function called {', '.join(OPS[:-1])} or {OPS[-1]}")
    return Backend(name=subject, ops=kernels, beta=beta)


def adapted(
    function: Callable[..., Any], op: str, *, torch_first: bool = False
) -> AdaptedKernel | AdaptedAttention:
    """Kernel over a function that computes an op.

    Raises
    ------
    SubjectError : it cannot be called as the op.
    """
    if op in ATTENTION_OPS:
        return AdaptedAttention(function, op, torch_first)
    return AdaptedKernel(function, op, torch_first)


def _adapted(function: object, op: str, place: str, attribute: str) -> AdaptedKernel | AdaptedAttention:
    if not callable(function):
        raise SubjectError(f"{place}:{attribute} is {type(function).__name__}, not a function")
    if inspect.isclass(function):
        raise SubjectError(
            f"{place}:{attribute} is a class; give a function or an instance that can be called"
        )
    try:
        return adapted(function, op, torch_first=_wants_torch(function, place))
    except SubjectError as error:
        raise SubjectError(f"{place}:{attribute} cannot be called as {op}: {error}") from None


def _wants_torch(function: Callable[..., Any], place: str) -> bool:
    """Whether a function looks like one of torch tensors; the first call still tries the other way."""
    if "torch" not in sys.modules:
        return False
    roots = {str(getattr(function, "__module__", "")), type(function).__module__, place}
    if any(root.partition(".")[0] == "torch" for root in roots):
        return True
    plain = inspect.unwrap(function)
    annotations = getattr(plain, "__annotations__", {})
    if any("Tensor" in str(annotation) for annotation in annotations.values()):
        return True
    code, scope = getattr(plain, "__code__", None), getattr(plain, "__globals__", {})
    if code is not None and "dim" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return True
    modules = {value.__name__ for value in scope.values() if isinstance(value, ModuleType)}
    return "torch" in modules and "numpy" not in modules


# --- what the subject says of itself ------------------------------------------------------------------


def _declaration(module: ModuleType, place: str) -> dict[str, Any]:
    declared = getattr(module, DECLARATION, None)
    if declared is None:
        return {}
    if not isinstance(declared, Mapping):
        raise SubjectError(f"{DECLARATION} in {place} is {type(declared).__name__}, not a mapping")
    unknown = sorted(str(key) for key in declared if key not in _DECLARABLE)
    if unknown:
        raise SubjectError(
            f"{DECLARATION} in {place} has an unknown entry {unknown[0]!r}; "
            f"it can hold {', '.join(_DECLARABLE)}"
        )
    values: dict[str, Any] = {}
    if "dtypes" in declared:
        values["dtypes"] = _declared_dtypes(declared["dtypes"], place)
    if "contract" in declared:
        values["contract"] = _declared_contract(declared["contract"], place)
    if "name" in declared:
        values["name"] = str(declared["name"])
    return values


def _declared_dtypes(dtypes: object, place: str) -> tuple[str, ...]:
    if isinstance(dtypes, str) or not isinstance(dtypes, (list, tuple)) or not dtypes:
        raise SubjectError(f"{DECLARATION}['dtypes'] in {place} is not a list of dtype names")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise SubjectError(
                f"{DECLARATION}['dtypes'] in {place} names {dtype!r}; the dtypes are {', '.join(DTYPES)}"
            )
    return tuple(dtypes)


def _declared_contract(declared: object, place: str) -> Contract:
    if isinstance(declared, Contract):
        return declared
    if not isinstance(declared, Mapping):
        raise SubjectError(f"{DECLARATION}['contract'] in {place} is not a mapping")
    try:
        return Contract.from_mapping(declared)
    except SubjectError as error:
        raise SubjectError(f"{DECLARATION}['contract'] in {place}: {error}") from None


def _versions(module: ModuleType) -> dict[str, str]:
    """Versions of the libraries that a module uses, as far as its names show."""
    modules = [module, *(value for value in vars(module).values() if isinstance(value, ModuleType))]
    roots = {str(m.__name__).partition(".")[0] for m in modules}
    found: dict[str, str] = {}
    for root in sorted(roots):
        version = getattr(sys.modules.get(root), "__version__", None)
        if isinstance(version, str) and root != "softcert" and root not in sys.stdlib_module_names:
            found[root] = version
    return found
