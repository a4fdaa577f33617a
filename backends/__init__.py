"""What is tested: the backend type, how a subject becomes one, and the isolated worker that runs it.

This room imports nothing else of softcert and no framework, so that a worker needs NumPy and the
subject's own library alone.
"""

from softcert.backends.contract import Contract
from softcert.backends.isolation import Description, Limits, Worker
from softcert.backends.library import include_folder
from softcert.backends.loading import load
from softcert.backends.ops import DTYPES, OPERANDS, OPS
from softcert.backends.registry import Availability, available, is_slow
from softcert.backends.types import (
    LAYOUTS,
    SIDE_EFFECTS,
    Array,
    Backend,
    Call,
    Failure,
    Kernel,
    Output,
    Reply,
    as_dtype,
)
from softcert.errors import SubjectError

__all__ = [
    "DTYPES",
    "LAYOUTS",
    "OPERANDS",
    "OPS",
    "SIDE_EFFECTS",
    "Array",
    "Availability",
    "Backend",
    "Call",
    "Contract",
    "Description",
    "Failure",
    "Kernel",
    "Limits",
    "Output",
    "Reply",
    "SubjectError",
    "Worker",
    "as_dtype",
    "available",
    "include_folder",
    "is_slow",
    "load",
]
