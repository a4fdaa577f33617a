"""Where compiled kernels are kept between processes: a folder for each state of the sources.

numba's own key knows the file of a function, not the files of what it calls, and a stale kernel could
certify a falsehood. So the folder's name is a digest of every source of the package that the kernels belong
to and of the compiler's versions; numba adds the processor, the signature and the Python version.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config

#: The folder that holds the cache, in place of the user's; empty for none.
VARIABLE = "SOFTCERT_CACHE_DIR"
#: Kernels of other states of the sources are kept so long, in seconds.
_KEPT = 7 * 86400.0


@contextmanager
def kept(sources: Path) -> Iterator[bool]:
    """Let numba keep what is declared within, if there is a place for it; says whether there is.

    Parameters
    ----------
    sources : the folder that holds every source of the kernels, what they call included.
    """
    folder = cache_folder(sources)
    if folder is None:
        yield False
        return
    # numba makes its settings from the environment, and reads this one where a kernel is declared.
    settings: Any = config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)
    try:
        yield True
    finally:
        settings.CACHE_DIR = before


@cache
def cache_folder(sources: Path) -> Path | None:
    """The folder of this state of the sources, made if need be; None where none can be kept safely.

    What lies there is run, so nobody else may be able to write it.
    """
    parent = _parent()
    if parent is None:
        return None
    folder = parent / digest(sources)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError:
        return None
    shared = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if facts.st_uid != os.geteuid() or shared or not os.access(folder, os.W_OK | os.X_OK):
        return None
    _forget_old(folder)
    return folder


def _parent() -> Path | None:
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen).absolute() / "kernels" if chosen else None
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(home).absolute() / "softcert" / "kernels"


def digest(root: Path) -> str:
    """Digest of every source below a folder, and of the compiler's versions."""
    total = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in sorted(root.rglob("*.py")):
        total.update(str(source.relative_to(root)).encode() + b"\0" + source.read_bytes() + b"\0")
    return total.hexdigest()[:24]


def _forget_old(current: Path) -> None:
    """Remove kernels of sources that were last used a while ago."""
    try:
        os.utime(current)
        for other in current.parent.iterdir():
            if other != current and time.time() - other.stat().st_mtime > _KEPT:
                shutil.rmtree(other, ignore_errors=True)
    except OSError:
        return


__all__ = ["VARIABLE", "cache_folder", "digest", "kept"]
