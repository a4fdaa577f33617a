"""Two runs beside each other: what got worse, what got better, and what cannot be told."""

from __future__ import annotations

from softcert.reports.comparison.compare import compare
from softcert.reports.comparison.describe import describe
from softcert.reports.comparison.model import Comparison
from softcert.reports.comparison.to_json import comparison_to_json

__all__ = ["Comparison", "compare", "comparison_to_json", "describe"]
