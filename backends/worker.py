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
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from softcert.backends import command, fpenv, wire
from softcert.backends.contract import Contract
from softcert.backends.loading import load
from softcert.backends.session import Session, options_of
from softcert.backends.types import Array, Backend, Call, Failure, Reply
from softcert.errors import SubjectError

#: Libraries that compile on the first call, which then takes its time.
_COMPILERS = ("numba", "jax", "torch", "triton", "tensorflow", "cupy", "pyximport", "taichi", "cffi")
#: A thread reserves, without using, a stack and an allocator's arena; libraries start one per CPU.
_RESERVED_PER_CPU = 160 << 20
# --- the loop -----------------------------------------------------------------------------------------


def serve(connection: socket.socket, backend: Backend, limits: Mapping[str, int], token: str = "") -> None:
    """Describe the backend, then answer calls until the other end closes.

    Parameters
    ----------
    connection : stream to the judge.
    backend : the loaded subject.
    limits : `memory_bytes`, what the process may allocate beyond what it has now.
    token : that of the order, which the description answers.
    """
    effects = fpenv.disturbed()
    if effects:
        fpenv.restore()
    wire.send(connection, {**description_of(backend), "token": token})
    for program in command.commands_of(backend):
        program.confine(limits["memory_bytes"])
    _limit_memory(limits["memory_bytes"])
    session, loaded = Session(backend, effects), _data_bytes()
    read, process = wire.read_blocking(connection), os.getpid()
    while True:
        try:
            header, arrays = wire.receive(read)
        except EOFError:
            return
        reply = session.perform(_call_of(header, arrays))
        if os.getpid() != process:
            # The kernel forked and let the child return: only the original may speak.
            os._exit(0)
        state = {"token": header["token"], "lost": session.lost, "held_bytes": _data_bytes() - loaded}
        _answer(connection, reply, state)


def _call_of(header: Mapping[str, Any], arrays: tuple[Array, ...]) -> Call:
    operands, mask = (arrays[:-1], arrays[-1]) if header["masked"] else (arrays, None)
    params, layout = header["params"], header["layout"]
    asked = header["measured"], header["timed"]
    return Call(header["op"], operands, params, layout, header["repeat"], mask, *asked)


def _answer(connection: socket.socket, reply: Reply, state: Mapping[str, Any]) -> None:
    if isinstance(reply, Failure):
        wire.send(connection, {"reply": "failure", **state, **asdict(reply)})
        return
    header = {
        **state,
        "reply": "output",
        "results": len(reply.values),
        "seconds": reply.seconds,
        "side_effects": list(reply.side_effects),
        "peak_bytes": reply.peak_bytes,
        "kept_bytes": reply.kept_bytes,
        "clock": reply.clock,
    }
    wire.send(connection, header, (*reply.values, *(reply.distinct or ())))


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
        "options": {op: list(options_of(op, kernel)) for op, kernel in backend.ops.items()},
        "memory_seen": not command.commands_of(backend),
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
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _lower_limit(resource.RLIMIT_DATA, _data_bytes() + extra)
    if not Path("/dev/nvidiactl").exists():
        # RLIMIT_DATA does not count shared mappings. CUDA reserves addresses for all memory there is.
        _lower_limit(resource.RLIMIT_AS, size + extra + _RESERVED_PER_CPU * (os.cpu_count() or 1))


def _data_bytes() -> int:
    """Writable memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _lower_limit(which: int, limit: int) -> None:
    _, hard = resource.getrlimit(which)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (limit, limit))


# --- starting -----------------------------------------------------------------------------------------


def prepare(trace_fd: int) -> None:
    """Make the process ready for foreign code.

    Parameters
    ----------
    trace_fd : file that gets the Python traceback of a crash, and of SIGUSR1.
    """
    warnings.simplefilter("ignore")
    faulthandler.enable(file=trace_fd, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=trace_fd, all_threads=False)


def main(stream_fd: int, trace_fd: int) -> None:
    """Serve the subject that the first frame on the stream to the judge names.

    Parameters
    ----------
    stream_fd : socket to the judge. trace_fd : as for `prepare`.
    """
    prepare(trace_fd)
    connection = socket.socket(fileno=stream_fd)
    order, _ = wire.receive(wire.read_blocking(connection))
    sys.path.extend(path for path in order["path"] if path not in sys.path)
    contract = None if order["contract"] is None else Contract.from_mapping(order["contract"])
    try:
        backend = load(order["subject"], order["op"], contract)
    except SubjectError as error:
        wire.send(connection, {"reply": "unloadable", "token": order["token"], "message": str(error)})
        return
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    serve(connection, backend, order["limits"], order["token"])
