"""The worker's side of the isolation: loads a subject, then answers calls until the judge is gone.

It imports nothing of softcert but this room, so that no oracle shares a process with foreign code.
"""

from __future__ import annotations

import faulthandler
import os
import platform
import resource
import signal
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from softcert.backends import fpenv, lifeline, wire
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.convert import NotAnArrayError, as_result, same_bits
from softcert.backends.guarded import GuardedOperand, poison_free_memory
from softcert.backends.loading import describe_exception, load
from softcert.backends.types import (
    Array,
    Backend,
    Call,
    Contract,
    Failure,
    Kernel,
    Output,
    Reply,
    SubjectError,
)

#: Libraries that compile on the first call, which then takes its time.
_COMPILERS = ("numba", "jax", "torch", "triton", "tensorflow", "cupy", "pyximport", "taichi", "cffi")
#: A thread reserves, without using, a stack and an allocator's arena; libraries start one per CPU.
_RESERVED_PER_CPU = 160 << 20
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
        layouts = [call.layout] * len(call.operands)
        if call.layout == "mixed":
            layouts = ["contiguous", *["transposed"] * (len(call.operands) - 1)]
        operands = [GuardedOperand(a, layout) for a, layout in zip(call.operands, layouts, strict=True)]
        if isinstance(kernel, AdaptedKernel):
            # Its trials come first: they would leave their own numbers in the freed memory.
            kernel.prepare(call.operands[0])
        effects = dict.fromkeys(self._loading_effects)
        if isinstance(kernel, AdaptedKernel) and kernel.first_call_differs:
            effects["first-call-differs"] = None
        fastest, last, distinct = float("inf"), None, None
        for _ in range(max(call.repeat, 1)):
            poison_free_memory(call.operands[0].nbytes)
            views = [operand.fresh_view() for operand in operands]
            seconds, result = _timed(kernel, views, call)
            fastest = min(fastest, seconds)
            # Copied before the operands are put right, in whose memory it may lie.
            value = result.copy()
            found = self._disturbances(operands, views, result)
            effects.update(dict.fromkeys(found))
            if last is not None and not same_bits(last, value):
                distinct = last
            last = value
            if "earlier-output-changed" in found or value.nbytes > _LARGEST_REMEMBERED:
                self._earlier.clear()
            if "output-aliases-input" not in found:
                self._earlier.append((result, value))
        if "output-aliases-input" not in effects:
            for operand in operands:
                operand.release()
        assert last is not None  # noqa: S101 - at least one repetition ran
        return Output(last, fastest, distinct, tuple(effects))

    def _disturbances(self, operands: list[GuardedOperand], views: list[Array], result: Array) -> list[str]:
        """Return what the call disturbed; operands and environment are put right again."""
        effects = []
        if any(operand.overlaps(result) for operand in operands):
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


def _timed(kernel: Kernel, views: list[Array], call: Call) -> tuple[float, Array]:
    """Wall time of the kernel, and its result as an array over its own memory."""
    start = time.perf_counter()
    returned = kernel(*views, **call.params)
    seconds = time.perf_counter() - start
    result = as_result(returned, call.operands[0].dtype)
    given = sum(operand.nbytes for operand in call.operands)
    if result.nbytes > 64 * given + (1 << 20):
        raise NotAnArrayError(
            f"the kernel returned an array of shape {result.shape}, far larger than its input"
        )
    return seconds, result


# --- the loop -----------------------------------------------------------------------------------------


def serve(connection: socket.socket, backend: Backend, limits: Mapping[str, int]) -> None:
    """Describe the backend, then answer calls until the other end closes.

    Parameters
    ----------
    connection : stream to the judge.
    backend : the loaded subject.
    limits : `memory_bytes`, what the process may allocate beyond what it has now.
    """
    effects = fpenv.disturbed()
    if effects:
        fpenv.restore()
    wire.send(connection, description_of(backend))
    _limit_memory(limits["memory_bytes"])
    session = Session(backend, effects)
    read, process = wire.read_blocking(connection), os.getpid()
    while True:
        try:
            header, operands = wire.receive(read)
        except EOFError:
            return
        params = header["params"]
        reply = session.perform(Call(header["op"], operands, params, header["layout"], header["repeat"]))
        if os.getpid() != process:
            # The kernel forked and let the child return: only the original may speak.
            os._exit(0)
        _answer(connection, reply)


def _answer(connection: socket.socket, reply: Reply) -> None:
    if isinstance(reply, Failure):
        wire.send(connection, {"reply": "failure", "kind": reply.kind, "message": reply.message})
        return
    header = {"reply": "output", "seconds": reply.seconds, "side_effects": list(reply.side_effects)}
    arrays = [reply.value] if reply.distinct is None else [reply.value, reply.distinct]
    wire.send(connection, header, arrays)


def description_of(backend: Backend) -> dict[str, Any]:
    """JSON-ready description of a backend and of the machine it runs on."""
    return {
        "reply": "description",
        "name": backend.name,
        "ops": list(backend.ops),
        "dtypes": list(backend.dtypes),
        "assumed": backend.assumed,
        "contract": backend.contract.to_mapping(),
        "beta": backend.beta,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            **{str(k): str(v) for k, v in backend.versions.items()},
        },
        "machine": machine_facts(),
        "compiles": any(name in sys.modules for name in _COMPILERS),
    }


def machine_facts() -> dict[str, str]:
    """Facts of this machine on which floating-point results may depend."""
    facts = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": platform.processor() or platform.machine(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "libc": " ".join(platform.libc_ver()),
    }
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            facts["processor"] = line.partition(":")[2].strip()
            break
    return facts


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _limit_memory(extra: int) -> None:
    """Let writable memory grow by so many bytes, and the address space by little more."""
    fields = [int(word) for word in Path("/proc/self/statm").read_text().split()]
    size, data = fields[0] * resource.getpagesize(), fields[5] * resource.getpagesize()
    _lower_limit(resource.RLIMIT_DATA, data + extra)
    if not Path("/dev/nvidiactl").exists():
        # RLIMIT_DATA does not count shared mappings. CUDA reserves addresses for all memory there is.
        _lower_limit(resource.RLIMIT_AS, size + extra + _RESERVED_PER_CPU * (os.cpu_count() or 1))


def _lower_limit(which: int, limit: int) -> None:
    _, hard = resource.getrlimit(which)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (limit, limit))


# --- starting -----------------------------------------------------------------------------------------


def prepare(lifeline_fd: int, trace_fd: int) -> None:
    """Make the process, leader of its group, ready for foreign code.

    Parameters
    ----------
    lifeline_fd : socket whose other end the judge alone holds; when that closes, the group is killed.
    trace_fd : file that gets the Python traceback of a crash, and of SIGUSR1.
    """
    warnings.simplefilter("ignore")
    faulthandler.enable(file=trace_fd, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=trace_fd, all_threads=False)
    _adopt_orphans()
    lifeline.bind(lifeline_fd)


def _adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent ends, so that the judge can find them."""
    import ctypes

    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def main() -> None:
    """Serve the subject that the first frame on the given descriptor names.

    The command line holds three file descriptors: stream to the judge, lifeline, trace file.
    """
    stream_fd, lifeline_fd, trace_fd = (int(word) for word in sys.argv[1:4])
    # The subject sees no arguments, as it sees no input.
    sys.argv[:] = ["softcert-worker"]
    prepare(lifeline_fd, trace_fd)
    connection = socket.socket(fileno=stream_fd)
    order, _ = wire.receive(wire.read_blocking(connection))
    sys.path.extend(path for path in order["path"] if path not in sys.path)
    contract = None if order["contract"] is None else Contract.from_mapping(order["contract"])
    try:
        backend = load(order["subject"], order["op"], contract)
    except SubjectError as error:
        wire.send(connection, {"reply": "unloadable", "message": str(error)})
        return
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    serve(connection, backend, order["limits"])


if __name__ == "__main__":
    main()
