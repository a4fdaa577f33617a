"""What Hypothesis draws by, and where it keeps its caches, while softcert draws.

Neither may depend on where softcert is run, nor on what else is loaded: a fixed seed gives a fixed run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

from hypothesis import configuration


@contextmanager
def private_storage() -> Iterator[None]:
    """Give Hypothesis a folder that goes away with the block; a caller's own choice of one is kept.

    Hypothesis writes tables of characters and constants into `.hypothesis` in the current folder even
    where it is told to keep no examples.
    """
    if os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY"):
        yield
        return
    # A test suite around this one may draw too, and goes on with the folder that it had.
    before = vars(configuration).get("__hypothesis_home_directory")
    with tempfile.TemporaryDirectory(prefix="softcert-", ignore_cleanup_errors=True) as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(before)


@contextmanager
def fixed_draws() -> Iterator[None]:
    """Keep what Hypothesis draws from depending on the modules that happen to be loaded.

    It mixes in numbers that it reads in the source of every loaded module outside site-packages, the
    caller's own and a source tree of softcert included.
    """
    try:
        providers: Any = import_module("hypothesis.internal.conjecture.providers")
    except ImportError:
        providers = None
    if not hasattr(providers, "_get_local_constants"):  # Hypothesis before 6.131 reads no source
        yield
        return
    cache = providers.CONSTANTS_CACHE
    forget = cache.clear if hasattr(cache, "clear") else cache.cache.clear
    forget()
    try:
        with patch.object(providers, "_get_local_constants", providers.Constants):
            yield
    finally:
        forget()
