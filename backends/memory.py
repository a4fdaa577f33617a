"""How much memory a call takes at most, as the system counts the pages of this process."""

from __future__ import annotations

import ctypes
from pathlib import Path

_LIBC = ctypes.CDLL(None)
#: Written to clear_refs, it sets the peak of the resident set to its present size.
_RESET_PEAK = "5"


class Peak:
    """Watches the resident memory of this process from now on.

    Notes
    -----
    What the allocator holds free is given back to the system first, since a call that takes it again would
    otherwise seem to take nothing. Where the system keeps no peak, `bytes` is None.
    """

    def __init__(self) -> None:
        if hasattr(_LIBC, "malloc_trim"):
            _LIBC.malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
            self._before = _status("VmRSS")
        except OSError:
            self._before = None

    def bytes(self) -> int | None:
        """Bytes that were held at most, beyond those at the start."""
        peak = None if self._before is None else _status("VmHWM")
        return None if self._before is None or peak is None else max(peak - self._before, 0)


def _status(field: str) -> int | None:
    """A field of this process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    return None
