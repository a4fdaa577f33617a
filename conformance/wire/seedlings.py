"""Seedlings as JSON and back, bit for bit; a field that has its default is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np

from softcert.conformance.spec import Seedling
from softcert.conformance.wire.arrays import ArrayError, array_from_json, array_to_json
from softcert.conformance.wire.runs import plain, unplain


def seedling_to_json(seedling: Seedling) -> dict[str, Any]:
    """Return a seedling as the schema worst-1 has it."""
    document: dict[str, Any] = {"operands": [array_to_json(a) for a in seedling.operands]}
    for field in fields(Seedling)[1:]:
        value = getattr(seedling, field.name)
        if isinstance(value, np.ndarray):
            document[field.name] = array_to_json(value)
        elif value != _default(field):
            document[field.name] = plain(value)
    return document


def seedling_from_json(document: Mapping[str, Any]) -> Seedling:
    """Return the seedling that a document holds.

    Raises
    ------
    ArrayError : an array that contradicts itself, or a field that no seedling of this version has.
    """
    unknown = sorted(set(document) - {field.name for field in fields(Seedling)})
    if unknown:
        raise ArrayError(f"a seedling has no field {unknown[0]!r}")
    values = {name: _value(entry) for name, entry in document.items() if name != "operands"}
    return Seedling(tuple(array_from_json(operand) for operand in document["operands"]), **values)


def _value(entry: Any) -> Any:
    if isinstance(entry, Mapping) and {"dtype", "shape"} <= set(entry):
        return array_from_json(entry)
    return unplain(entry)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
