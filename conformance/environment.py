"""The machine and the versions that a run was made with: all that matters, nothing that names anyone."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: The libraries that every verdict rests on.
ORACLES: tuple[str, ...] = ("mpmath", "python-flint", "sympy", "numpy", "hypothesis", "ml_dtypes")
#: Instruction sets that change which code path a library takes, and so its results.
SIMD_FLAGS: tuple[str, ...] = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_fp16",
    "avx512_bf16",
)
_ARM_FLAGS: tuple[str, ...] = ("asimd", "asimdhp", "sve", "sve2", "bf16")
_CPUINFO = Path("/proc/cpuinfo")


@cache
def softcert_version() -> str:
    """Return the version of softcert, or "unknown" where it runs from a tree that was never installed."""
    return installed_versions(["softcert"]).get("softcert", "unknown")


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed, without importing any."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe(libraries: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Describe machine and versions for a run's `environment`.

    Parameters
    ----------
    libraries : versions that the subject rests on, by name, to be listed beside the oracles.

    Returns
    -------
    JSON-ready mapping: python, platform, processor, simd, cores, versions, date (UTC, ISO 8601, seconds).
    It holds no host name, user name or path.
    """
    model, flags = processor(_read_cpuinfo())
    versions = {"softcert": softcert_version(), **installed_versions(ORACLES), **(libraries or {})}
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "simd": list(flags),
        "cores": available_cores(),
        "versions": {str(name): str(number) for name, number in versions.items()},
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def available_cores() -> int:
    """Return the number of cores that this process may use, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count()
    return count or 1


def processor(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """Return the processor's model and the SIMD flags that matter.

    Parameters
    ----------
    cpuinfo : text of /proc/cpuinfo, or "" where there is none.
    """
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip().lower(), value.strip())
    fallback = platform.processor() or platform.machine() or "unknown"
    model = " ".join(fields.get("model name", fallback).split()) or fallback
    present = set(fields.get("flags", fields.get("features", "")).split())
    return model, tuple(flag for flag in (*SIMD_FLAGS, *_ARM_FLAGS) if flag in present)


def _read_cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
