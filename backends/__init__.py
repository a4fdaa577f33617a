"""What is tested: the backend type, how a subject becomes one, and the isolated worker that runs it.

This room imports nothing else of softcert and no framework, so that a worker needs NumPy and the
subject's own library alone.
"""

from softcert.backends.isolation import Description, Limits, Worker
from softcert.backends.loading import load
from softcert.backends.registry import Availability, available
from softcert.backends.types import (
    DTYPES,
    LAYOUTS,
    OPERANDS,
    OPS,
    SIDE_EFFECTS,
    Array,
    Backend,
    Call,
    Contract,
    Failure,
    Kernel,
    Output,
    Reply,
    SubjectError,
    as_dtype,
)

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
    "load",
]
