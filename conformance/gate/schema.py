"""The configuration of a gate against its published schema; each breach is one sentence with the key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema

from softcert.backends.rules import shown, unknown
from softcert.conformance.model import RequestError


@cache
def gate_schema() -> Mapping[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a gate's configuration."""
    text = (files("softcert.conformance") / "schemas" / "gate-1.json").read_text(encoding="utf-8")
    document: Mapping[str, Any] = json.loads(text)
    return document


def require_valid(document: object, source: str, prefix: str = "") -> None:
    """Check a configuration against the schema.

    Parameters
    ----------
    source : the file, for the sentence.
    prefix : the table that holds the configuration, "tool.softcert" for instance.

    Raises
    ------
    RequestError : the first breach, by the file, the key and what the key has to be.
    """
    validator = jsonschema.Draft202012Validator(gate_schema())
    # A misspelt key is told before the one that is missing for it.
    errors = sorted(
        validator.iter_errors(document),
        key=lambda error: (len(error.path), error.validator != "additionalProperties", str(error.path)),
    )
    if errors:
        raise RequestError(f"{source}: {_sentence(errors[0], prefix)}")


def key_path(prefix: str, path: Iterable[object]) -> str:
    """Return a place as one writes it: `tool.softcert.subjects[0].seed`."""
    text = prefix
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _sentence(error: Any, prefix: str) -> str:
    place = key_path(prefix, error.path)
    part = error.schema
    if error.validator == "additionalProperties":
        name = min(str(key) for key in error.instance if key not in part["properties"])
        hint = unknown("", name, part["properties"], "the keys are").strip()
        return f"the key {key_path(prefix, [*error.path, name])} {hint}"
    if error.validator == "required":
        name = next(name for name in part["required"] if name not in error.instance)
        inside = f" in {place}" if place else ""
        return f"the key {name}{inside} is missing; it has to be {part['properties'][name].get('title', '')}"
    what = f"the key {place}" if place else "the file"
    return f"{what} has to be {part.get('title', error.message)}, not {shown(error.instance)}"
