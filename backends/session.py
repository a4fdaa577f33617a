"""Calls on a loaded backend, watched: what each gives, and what it disturbs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from softcert.backends import fpenv, memory
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.adapt_attention import AdaptedAttention
from softcert.backends.convert import NotAnArrayError, as_results, same_bits
from softcert.backends.guarded import GuardedOperand, poison_free_memory
from softcert.backends.loading import describe_exception
from softcert.backends.types import Array, Backend, Call, Failure, Kernel, Output, Reply

#: Earlier results watched for changes; a pool of buffers is rarely larger. Large ones are watched alone.
_REMEMBERED = 8
_LARGEST_REMEMBERED = 1 << 16
#: What allocators outside Python say when the limit is reached.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "cannot allocate memory",
)
#: Kernels that find out on the first call how their function is called.
ADAPTED = (AdaptedKernel, AdaptedAttention)


class Session:
    """Calls on one backend, and what must outlive a call to see what the next one disturbs.

    Parameters
    ----------
    backend : the loaded subject.
    loading_effects : what loading it did to the floating-point environment, reported with every call,
        since every process that loads the subject suffers it.
    """

    def __init__(self, backend: Backend, loading_effects: tuple[str, ...] = ()) -> None:
        self._backend = backend
        self._loading_effects = loading_effects
        self._earlier: deque[tuple[Array, Array]] = deque(maxlen=_REMEMBERED)

    def perform(self, call: Call) -> Reply:
        """Reply to one call; whatever the kernel raises becomes a Failure."""
        try:
            return self._perform(call, self._backend.ops[call.op])
        except NotAnArrayError as error:
            return Failure("output", str(error))
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the subject's too
            if isinstance(error, MemoryError):
                return Failure("memory", describe_exception(error))
            message = describe_exception(error)
            scarce = any(words in message.lower() for words in _OUT_OF_MEMORY)
            return Failure("memory" if scarce else "exception", message)
        finally:
            if fpenv.disturbed():
                fpenv.restore()

    def _perform(self, call: Call, kernel: Kernel) -> Output:
        operands = [GuardedOperand(a, layout) for a, layout in zip(call.arrays, _layouts(call), strict=True)]
        effects = dict.fromkeys(self._loading_effects)
        if isinstance(kernel, ADAPTED):
            # Its trials come first: they would leave their own numbers in the freed memory.
            kernel.prepare(*call.operands)
            if kernel.first_call_differs:
                effects["first-call-differs"] = None
        fastest, last, distinct, peak = float("inf"), None, None, None
        for _ in range(max(call.repeat, 1)):
            for nbytes in {a.nbytes for a in call.operands}:
                poison_free_memory(nbytes)
            views = [operand.fresh_view() for operand in operands]
            watch = memory.Peak() if call.measured else None
            seconds, results = _timed(kernel, views, call)
            peak = watch.bytes() if watch else None
            fastest = min(fastest, seconds)
            # Copied before the operands are put right, in whose memory they may lie.
            values = tuple(result.copy() for result in results)
            found = self._disturbances(operands, views, results)
            effects.update(dict.fromkeys(found))
            if last is not None and not _same(last, values):
                distinct = last
            last = values
            self._remember(results, values, found)
        if "output-aliases-input" not in effects:
            for operand in operands:
                operand.release()
        assert last is not None  # noqa: S101 - at least one repetition ran
        return Output(last, fastest, distinct, tuple(effects), peak)

    def _remember(self, results: Sequence[Array], values: Sequence[Array], found: Sequence[str]) -> None:
        """Keep the results, and copies of them, for later calls to be seen changing them."""
        if "earlier-output-changed" in found or sum(v.nbytes for v in values) > _LARGEST_REMEMBERED:
            self._earlier.clear()
        if "output-aliases-input" not in found:
            self._earlier.extend(zip(results, values, strict=True))

    def _disturbances(
        self, operands: list[GuardedOperand], views: list[Array], results: Sequence[Array]
    ) -> list[str]:
        """Return what the call disturbed; operands and environment are put right again."""
        effects = []
        if any(operand.overlaps(result) for operand in operands for result in results):
            effects.append("output-aliases-input")
        modified = [operand for operand, view in zip(operands, views, strict=True) if operand.modified(view)]
        if modified:
            effects.append("input-modified")
            for operand in modified:
                operand.restore()
        if not all(same_bits(*earlier) for earlier in self._earlier):
            effects.append("earlier-output-changed")
        environment = fpenv.disturbed()
        if environment:
            fpenv.restore()
        return effects + list(environment)


def _layouts(call: Call) -> list[str]:
    if call.layout == "mixed":
        return ["contiguous", *["transposed"] * (len(call.arrays) - 1)]
    return [call.layout] * len(call.arrays)


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return len(some) == len(others) and all(map(same_bits, some, others))


def _timed(kernel: Kernel, views: list[Array], call: Call) -> tuple[float, tuple[Array, ...]]:
    """Wall time of the kernel, and its results as arrays over their own memory."""
    params: dict[str, Any] = dict(call.params)
    if call.mask is not None:
        params["mask"] = views.pop()
    start = time.perf_counter()
    returned = kernel(*views, **params)
    seconds = time.perf_counter() - start
    results = as_results(returned, call.operands[0].dtype, call.result_names)
    given = sum(operand.nbytes for operand in call.operands)
    for result in results:
        if result.nbytes > 64 * given + (1 << 20):
            raise NotAnArrayError(
                f"the kernel returned an array of shape {result.shape}, far larger than its input"
            )
    return seconds, results
