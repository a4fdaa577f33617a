"""Where Hypothesis keeps its caches while softcert draws: not in the folder that it is run from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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
