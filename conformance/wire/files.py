"""Reading and writing the JSON files of softcert: strict, whole or not at all.

A file that is wrong ends in a `RequestError` of one sentence that names the file and the place in it.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import jsonschema
from jsonschema.validators import extend
from referencing import Registry, Resource

from softcert.conformance.model import SCHEMA, RequestError
from softcert.errors import SoftcertError

#: The kinds of documents, with the schema of each, or with the place in one of which they are a part.
SCHEMAS: Mapping[str, str] = {
    "run": "run-1.json",
    "report": "run-1.json#/$defs/report",
    "witness": "witness-1.json",
    "worst": "worst-1.json",
    "search": "search-1.json",
    "results": "exchange-1.json",
    "answers": "exchange-1.json#/$defs/answers",
    "campaign": "campaign-1.json",
}
_LONGEST_EXCERPT = 120


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the documents of one kind, a key of `SCHEMAS`."""
    return dict(_schema_file(SCHEMAS[kind].partition("#")[0]))


@cache
def _schema_file(name: str) -> Mapping[str, Any]:
    text = (files("softcert.conformance") / "schemas" / name).read_text(encoding="utf-8")
    document: Mapping[str, Any] = json.loads(text)
    return document


def _items(validator: Any, items: Any, instance: Any, parent: Any) -> Iterator[Any]:
    """Validate `items`, in one pass of a regular expression where they are all patterned strings.

    A witness holds up to a million numbers; the library's own loop takes some ten microseconds for each.
    """
    if isinstance(items, dict) and set(items) <= {"type", "pattern", "description"} and "pattern" in items:
        match = re.compile(items["pattern"]).search
        if isinstance(instance, list) and all(isinstance(item, str) and match(item) for item in instance):
            return
    yield from jsonschema.Draft202012Validator.VALIDATORS["items"](validator, items, instance, parent)


def _schema_files() -> list[str]:
    return sorted({name.partition("#")[0] for name in SCHEMAS.values()})


@cache
def _validator(kind: str) -> Any:
    resources = [Resource.from_contents(_schema_file(name)) for name in _schema_files()]
    registry: Registry[Any] = Registry().with_resources((r.id() or "", r) for r in resources)
    validator = extend(jsonschema.Draft202012Validator, {"items": _items})
    root = schema(kind)
    place = SCHEMAS[kind].partition("#")[2]
    if place:
        root = {"$ref": f"{root['$id']}#{place}"}
    return validator(root, registry=registry)


def validate(document: Any, kind: str, source: str = "the document") -> None:
    """Check a document against the schema of its kind.

    Raises
    ------
    RequestError : another kind, another schema number, or a place that breaks the schema.
    """
    if not isinstance(document, dict):
        raise RequestError(f"{source} is not a softcert {kind}: it holds no JSON object")
    number, named = document.get("schema"), document.get("kind")
    if type(number) is not int or number != SCHEMA:
        raise RequestError(
            f"{source} has schema {number!r}, and this softcert reads schema {SCHEMA}"
            if "schema" in document
            else f"{source} is not a softcert {kind}: it has no schema number"
        )
    if named != kind:
        raise RequestError(f"{source} holds a {_excerpt(named)}, not a {kind}")
    validate_part(document, kind, source)


def validate_part(document: Any, kind: str, source: str) -> None:
    """Check a document, or a part of one, that does not say of what kind it is.

    Raises
    ------
    RequestError : a place that breaks the schema.
    """
    error = jsonschema.exceptions.best_match(_validator(kind).iter_errors(document))
    if error is not None:
        raise RequestError(f"{source} is not a valid {kind}: at {error.json_path}, {_excerpt(error.message)}")


def _excerpt(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST_EXCERPT else f"{line[: _LONGEST_EXCERPT - 3]}..."


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a file of strict JSON holds: UTF-8, no NaN tokens, no key twice, no overflow.

    Raises
    ------
    RequestError : the file cannot be read, or is not strict JSON.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not JSON: byte {error.start} is not UTF-8") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read {path}: {_reason(error)}") from error
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except ValueError as error:
        raise RequestError(f"{path} is not strict JSON: {_excerpt(error)}") from error
    except RecursionError as error:
        raise RequestError(f"{path} is not a softcert file: it is nested too deeply") from error


def _refuse(token: str) -> float:
    raise ValueError(f'the token {token} is not JSON (softcert writes it as the string "{token.lower()}")')


def _finite(token: str) -> float:
    number = float(token)
    if math.isinf(number):
        raise ValueError(f"the number {token} is beyond binary64")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return document


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def dumps(document: Mapping[str, Any]) -> str:
    """Return a document as strict JSON text that ends with a newline.

    Raises
    ------
    ValueError : a NaN or infinity that was not written as a string.
    """
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a UTF-8 file so that a reader sees the old one or the whole new one; make its folder.

    Raises
    ------
    RequestError : the file or its folder cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot write {path}: {_reason(error)}") from error
    with replacing(path) as file:
        file.write(text.encode("utf-8", errors="backslashreplace"))
    return Path(path)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of the one at `path` when the block is done, and not before.

    Raises
    ------
    RequestError : the file cannot be written.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:64]}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(temporary).chmod(_mode(target))
        Path(temporary).replace(target)
        temporary = None
    except (OSError, ValueError) as error:
        if isinstance(error, SoftcertError):
            raise
        raise RequestError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, or those that a new file gets (mkstemp's are private)."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
