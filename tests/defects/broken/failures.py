"""Kernels that crash, hang, exit, raise, or return what is not an array of numbers."""

import ctypes
import os
import signal
import sys
import threading
import time

import numpy as np


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def segmentation_fault(x):
    """Reads address 0."""
    return ctypes.string_at(0)


def faults_on_length_three(x):
    """Reads address 0 for rows of three."""
    if x.shape[-1] == 3:
        ctypes.string_at(0)
    return _softmax(x)


def exits(x):
    """Calls sys.exit with success."""
    sys.exit(0)


def exits_without_cleanup(x):
    """Ends the process with status 0."""
    os._exit(0)


def aborts(x):
    """Calls abort, as a failed assertion in C does."""
    os.abort()


def kills_itself(x):
    """Dies by a signal that cannot be caught."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps_forever(x):
    """Never returns."""
    while True:
        time.sleep(3600)


def spins_on_nan(x):
    """Iterates to convergence, which NaN never reaches."""
    m = x.max(axis=-1, keepdims=True)
    while not (m == m).all():
        m = np.maximum(m, x)
    return _softmax(x)


def deadlock(x):
    """Takes a lock twice."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
    return _softmax(x)


def recursion(x):
    """Recurses without end."""
    return recursion(x)


def prints_forever(x):
    """Floods the standard output and never returns."""
    while True:
        print("softmax " * 1000)  # noqa: T201 - the flood is the defect


def allocates_everything(x):
    """Keeps intermediate results until no memory is left (gives up at 4 GiB, for the machine's sake)."""
    kept = [np.ones(1 << 24) for _ in range(32)]
    raise MemoryError(f"{len(kept)} buffers held")


def raises_on_one_element(x):
    """Rows of one element raise."""
    if x.shape[-1] == 1:
        raise ValueError("softmax needs two classes")
    return _softmax(x)


def raises_on_empty_batch(x):
    """A batch of no rows raises."""
    if x.ndim > 1 and x.size == 0 and x.shape[-1]:
        raise IndexError("empty batch")
    return _softmax(x)


def raises_on_three_dimensions(x):
    """Three dimensions raise."""
    if x.ndim > 2:
        raise ValueError("expected a matrix")
    return _softmax(x)


def raises_on_odd_length(x):
    """Odd lengths above 2 raise."""
    if x.shape[-1] > 2 and x.shape[-1] % 2:
        raise ValueError("length must be even")
    return _softmax(x)


def raises_on_negative_strides(x):
    """Reversed input raises, as a strict buffer import does."""
    if any(s < 0 for s in x.strides):
        raise ValueError("negative strides are not supported")
    return _softmax(x)


def one_element_is_zero(x):
    """Rows of one element give 0."""
    return np.zeros_like(x) if x.shape[-1] == 1 else _softmax(x)


def one_element_is_itself(x):
    """Rows of one element come back unchanged."""
    return x.copy() if x.shape[-1] == 1 else _softmax(x)


def returns_none(x):
    """Returns nothing."""


def returns_text(x):
    """Returns text."""
    return str(_softmax(x))


def returns_ragged_lists(x):
    """Returns lists of unequal length."""
    return [list(range(k)) for k in range(3)]


def returns_a_pair(x):
    """Returns the probabilities and the sum."""
    return _softmax(x), x.sum()
