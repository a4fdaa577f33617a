"""A comparison as a document of JSON, for a program that reads what a person reads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from softcert.conformance.environment import softcert_version
from softcert.conformance.model import SCHEMA
from softcert.conformance.wire.runs import plain
from softcert.reports.comparison.model import Comparison


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a JSON-ready mapping; infinities and NaN are strings, as in every file."""
    document: dict[str, Any] = plain(asdict(comparison))
    head = {"schema": SCHEMA, "kind": "comparison", "softcert": softcert_version(), "worse": comparison.worse}
    return head | document
