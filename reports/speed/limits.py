"""What the machine can do at most, measured beside the subjects: copies of memory, products of matrices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from softcert.conformance.environment import available_cores

if TYPE_CHECKING:
    from types import TracebackType

    from softcert.backends.types import Array

#: Copied bytes of the large array: with its target far beyond any cache.
LARGE = 64 << 20
#: Smaller copies would measure how long a call of NumPy's takes.
_SMALLEST = 64 << 10
#: Copied in one timing at least, so that starting the threads does not count.
_BATCH = 4 << 20
#: Rows and columns of the matrices multiplied.
_SIZE = 1024
#: Products in a round, of which the fastest counts: the first one wakes the threads.
_PRODUCTS = 2


class Limits(NamedTuple):
    """What was measured in one round.

    Attributes
    ----------
    copy : bytes read and written a second by copies of as many bytes as the call moves, in the same cache.
    memory : the same of a large array, which no cache holds.
    matrix : operations a second of a product of matrices, or None where none was made.
    """

    copy: float
    memory: float
    matrix: float | None


class Machine:
    """Measures the limits of this machine; use it as a context manager, which ends its threads.

    Notes
    -----
    A copy is made by one thread and by all of them, and the faster one counts: subjects may use every core.
    """

    def __init__(self) -> None:
        self._cores = available_cores()
        self._threads = ThreadPoolExecutor(self._cores)
        self._blocks: dict[int, tuple[Array, Array]] = {}
        self._matrices: dict[str, tuple[Array, Array]] = {}
        self._fastest: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def copy_rate(self, traffic: int) -> float:
        """Bytes a second, read and written, of copies that move `traffic` bytes."""
        size = max(traffic // 2, _SMALLEST)
        if size not in self._blocks:
            # One size at a time besides the large one: a ladder's blocks together would fill the memory.
            self._blocks = {LARGE: self._blocks[LARGE]} if LARGE in self._blocks else {}
            self._blocks[size] = (np.ones(size, np.uint8), np.zeros(size, np.uint8))
        source, target = self._blocks[size]
        times = max(_BATCH // size, 1)
        seconds = min(self._copy(source, target, times, threads) for threads in {1, self._cores})
        return 2 * size * times / seconds

    def matrix_rate(self, dtype: str) -> float:
        """Operations a second of NumPy's product of matrices, of float32 where the dtype has no fast one.

        The most that was reached since the threads were started: the product is always the same.
        """
        kind = "float64" if dtype == "float64" else "float32"
        if kind not in self._matrices:
            a = np.random.default_rng(0).standard_normal((_SIZE, _SIZE)).astype(kind)
            self._matrices[kind] = (a, np.empty_like(a))
        a, product = self._matrices[kind]
        seconds = []
        for _ in range(_PRODUCTS):
            start = perf_counter()
            np.matmul(a, a, out=product)
            seconds.append(perf_counter() - start)
        self._fastest[kind] = min(self._fastest.get(kind, np.inf), *seconds)
        return 2.0 * _SIZE**3 / self._fastest[kind]

    def _copy(self, source: Array, target: Array, times: int, threads: int) -> float:
        def copy(share: slice) -> None:
            for _ in range(times):
                np.copyto(target[share], source[share])

        edges = np.linspace(0, source.size, threads + 1).astype(int)
        shares = [slice(a, b) for a, b in pairwise(edges)]
        start = perf_counter()
        if threads == 1:
            copy(shares[0])
        else:
            list(self._threads.map(copy, shares))
        return perf_counter() - start
