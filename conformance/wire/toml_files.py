"""TOML: read with one clear sentence for what is wrong, and flat tables written."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softcert.backends.contract import Contract
from softcert.conformance.model import RequestError
from softcert.conformance.wire.files import read_json


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises
    ------
    RequestError : it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # the decoder's error, UnicodeDecodeError included
        raise RequestError(f"{path} is not TOML: {error}") from error


def read_contract(path: str | os.PathLike[str]) -> Contract:
    """Read a contract from a TOML file (suffix .toml) or a JSON file.

    Raises
    ------
    RequestError : it cannot be read, is malformed, or is no table of contract fields.
    SubjectError : a field or value that no contract has.
    """
    declared: Any = read_toml(path) if os.fspath(path).endswith(".toml") else read_json(path)
    if not isinstance(declared, Mapping):
        raise RequestError(
            f"the contract {path} has to hold a table of fields, not a {type(declared).__name__}"
        )
    return Contract.from_mapping(declared)


def toml_table(values: Mapping[str, bool | float | str | None], comments: Mapping[str, str]) -> str:
    """Return a flat table as TOML, each line with its comment; None is written "none"."""
    lines = []
    for name, value in values.items():
        comment = f"  # {comments[name]}" if comments.get(name) else ""
        lines.append(f"{name} = {_written(value)}{comment}")
    return "\n".join(lines) + "\n"


def _written(value: bool | float | str | None) -> str:
    if value is None:
        return '"none"'
    # JSON's strings, truth values and finite numbers are TOML's too.
    return json.dumps(value, ensure_ascii=False)
