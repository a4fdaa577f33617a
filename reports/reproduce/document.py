"""What every file of reproduced figures holds besides the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softcert.conformance.environment import describe, softcert_version


def document(figures: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return a whole JSON-ready document: figures under a head that says what they were measured with.

    Parameters
    ----------
    figures : what `table3_to_json` or `bounds_to_json` gives.
    seconds : wall time.
    """
    return {
        "schema": 1,
        "kind": "reproduction",
        "softcert": softcert_version(),
        "environment": describe(),
        **figures,
        "seconds": seconds,
    }
