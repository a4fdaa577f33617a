"""Calls on a loaded backend, watched: what each gives, and what it disturbs."""

from __future__ import annotations

import inspect
import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from softcert.backends import fpenv, memory
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.adapt_attention import AdaptedAttention
from softcert.backends.canonical import CanonicalKernel
from softcert.backends.command import CommandKernel
from softcert.backends.convert import NotAnArrayError, as_results, same_bits, wait_for
from softcert.backends.device_clock import ticking
from softcert.backends.exception_text import call_foreign, describe_exception, raised_by_subject
from softcert.backends.generators import seed_shared_generators
from softcert.backends.guarded import GuardedOperand, poison_free_memory
from softcert.backends.ops import REDUCING_OPS, SAMPLERS, options_known, without_axis
from softcert.backends.program import ProgramLostError
from softcert.backends.types import Array, Backend, Call, Failure, Kernel, Output, Reply

#: Earlier results watched for changes; a pool of buffers is rarely larger. Large ones are watched alone.
_REMEMBERED = 8
_LARGEST_REMEMBERED = 1 << 16
#: What allocators outside this Python say when the limit is reached.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "memoryerror",
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

    Attributes
    ----------
    lost : the subject is a program that answers no more.
    """

    def __init__(self, backend: Backend, loading_effects: tuple[str, ...] = ()) -> None:
        self._backend = backend
        self._loading_effects = loading_effects
        self._earlier: deque[tuple[Array, Array]] = deque(maxlen=_REMEMBERED)
        self.lost = False

    def perform(self, call: Call) -> Reply:
        """Reply to one call; whatever the kernel raises becomes a Failure."""
        try:
            return self._perform(call, self._backend.ops[call.op])
        except NotAnArrayError as error:
            return Failure("output", str(error))
        except ProgramLostError as error:
            self.lost = True
            return Failure("memory" if _is_scarcity(str(error)) else error.kind, str(error))
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt are the subject's too
            message, by_subject = describe_exception(error), raised_by_subject(error)
            if _is_scarcity(message) or issubclass(type(error), MemoryError):
                return Failure("memory", message)
            place = "" if by_subject else " (outside of the subject's code)"
            return Failure("exception", message + place, by_subject)
        finally:
            _environment_restored()

    def _perform(self, call: Call, kernel: Kernel) -> Output:
        operands = [GuardedOperand(a, layout) for a, layout in zip(call.arrays, _layouts(call), strict=True)]
        effects = dict.fromkeys(self._loading_effects)
        if isinstance(kernel, ADAPTED):
            # Its trials come first: they would leave their own numbers in the freed memory.
            kernel.prepare(*call.operands)
            if kernel.first_call_differs:
                effects["first-call-differs"] = None
            effects.update(dict.fromkeys(_environment_restored()))
        fastest, last, distinct, told_by = float("inf"), None, None, "wall"
        # A command's memory is that of another process, whose collector gives back when it likes.
        watch = memory.Peak() if call.measured and not isinstance(kernel, CommandKernel) else None
        for _ in range(max(call.repeat, 1)):
            for nbytes in {a.nbytes for a in call.operands} | _result_sizes(call):
                poison_free_memory(nbytes)
            views = [operand.fresh_view() for operand in operands]
            if watch and call.timed:
                # What is made around the kernel counts where memory is judged, and not where it is told.
                watch = memory.Peak()
            seconds, clock, results, beside = _timed(kernel, views, call)
            within = watch.bytes() if watch and call.timed else None
            effects.update(dict.fromkeys(beside))
            fastest, told_by = min((fastest, told_by), (seconds, clock))
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
        peak, kept = (watch.bytes(), watch.kept()) if watch else (None, None)
        held = peak if within is None else within, kept
        return Output(last, fastest, distinct, tuple(effects), *held, told_by)

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
        return effects + list(_environment_restored())


def _environment_restored() -> tuple[str, ...]:
    """What the floating-point environment was disturbed by; it is as it should be again."""
    found = fpenv.disturbed()
    if found:
        fpenv.restore()
    return found


def _result_sizes(call: Call) -> set[int]:
    """Bytes of results that are not as large as an operand."""
    first = call.operands[0]
    if call.op in REDUCING_OPS:
        return {math.prod(without_axis(first.shape, int(call.params["axis"]))) * first.itemsize}
    if call.op not in {"attention", "attention_lse"}:
        return set()
    rows = math.prod(first.shape[:-1])
    wide = rows * call.operands[2].shape[-1] * first.itemsize
    return {wide, rows * max(first.itemsize, 4)}


def options_of(op: str, kernel: Kernel) -> tuple[str, ...]:
    """Which keywords of its op a kernel takes: those that it says, or that its signature has."""
    if hasattr(kernel, "options"):
        return tuple(kernel.options)
    try:
        parameters = inspect.signature(kernel).parameters
    except (TypeError, ValueError):
        return options_known(op)
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return tuple(name for name in options_known(op) if anything or name in parameters)


def _is_scarcity(message: str) -> bool:
    return any(words in message.lower() for words in _OUT_OF_MEMORY)


def _layouts(call: Call) -> list[str]:
    if call.layout == "mixed":
        return ["contiguous", *["transposed"] * (len(call.arrays) - 1)]
    return [call.layout] * len(call.arrays)


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return len(some) == len(others) and all(map(same_bits, some, others))


def _timed(
    kernel: Kernel, views: list[Array], call: Call
) -> tuple[float, str, tuple[Array, ...], tuple[str, ...]]:
    """Time of the kernel, what told it, its results as arrays over their own memory, what it wrote besides.

    The wall clock's, but of a call that is timed and computes on a GPU.
    """
    params: dict[str, Any] = dict(call.params)
    if call.op in SAMPLERS and "seed" not in options_of(call.op, kernel):
        seed_shared_generators(int(params.pop("seed", 0)))
    if call.mask is not None:
        *views, params["mask"] = views
    effects: tuple[str, ...] = ()
    clock = "wall"
    call_it = kernel if isinstance(kernel, ADAPTED) else partial(call_foreign, kernel)
    start = time.perf_counter()
    if isinstance(kernel, CanonicalKernel):
        outcome = call_foreign(kernel.watched, *views, **params)
        seconds, effects = outcome.seconds, outcome.side_effects
        results = outcome.results
    else:
        with ticking() if call.timed else nullcontext() as device:
            returned = call_it(*views, **params)
            call_foreign(wait_for, returned)
        seconds = time.perf_counter() - start
        if device is not None:
            seconds, clock = device.told(seconds)
        results = call_foreign(as_results, returned, call.operands[0].dtype, call.result_names)
    given = sum(operand.nbytes for operand in call.operands)
    for result in results:
        if result.nbytes > 64 * given + (1 << 20):
            raise NotAnArrayError(
                f"the kernel returned an array of shape {result.shape}, far larger than its input"
            )
    return seconds, clock, results, effects
