"""Figures that papers print on the accuracy of softmax and attention, measured again, errors certified."""

from __future__ import annotations

from softcert.reports.reproduce.bhh2021 import bounds_to_json, measure_bounds
from softcert.reports.reproduce.document import document
from softcert.reports.reproduce.fa3_table3 import Setting, measure_table3, table3_to_json

__all__ = [
    "Setting",
    "bounds_to_json",
    "document",
    "measure_bounds",
    "measure_table3",
    "table3_to_json",
]
