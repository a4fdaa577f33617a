"""The judge's side of the isolation: a Worker answers every call, whatever the subject does.

A crash, a hang or a greedy allocation ends one process and gives one Failure; the next call starts a
new process and finds the subject loaded again.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, Self

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.forks import require_forkable
from softcert.backends.ops import takes_scores
from softcert.backends.process import INTRUDED, WorkerDied, WorkerProcess, WorkerSilent
from softcert.backends.types import Array, Backend, Call, Failure, Output, Reply
from softcert.errors import SubjectError


@dataclass(frozen=True)
class Limits:
    """What a subject may use.

    Attributes
    ----------
    seconds : wall time of one call, whatever its size, less what it was kept waiting for a processor.
    seconds_per_element : wall time besides for each element and repetition: slow is not hung.
    load_seconds : wall time of loading, and of an op's first call where a compiler may be at work.
    memory_bytes : address space beyond what loading took.
    """

    seconds: float = 10.0
    seconds_per_element: float = 1e-3
    load_seconds: float = 120.0
    memory_bytes: int = 4 << 30


@dataclass(frozen=True)
class Description:
    """What a loaded subject is.

    Attributes
    ----------
    name : how reports call it.
    ops : the ops that it has.
    dtypes : the dtypes that it declares.
    contract : its promises.
    beta : whether its softmax takes an inverse temperature.
    options : which keywords each op takes, of those of `options_known`; `beta` says it of softmax.
    memory_seen : what memory a call takes can be measured; not where another program computes.
    versions : python, numpy and the subject's own libraries.
    machine : facts on which results may depend: system, architecture, processor, cpus, libc.
    compiles : a compiler is loaded, so that an op's first call may take long.
    assumed : the dtypes are the default, not the subject's own word.
    """

    name: str
    ops: tuple[str, ...]
    dtypes: tuple[str, ...]
    contract: Contract
    beta: bool
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    compiles: bool = False
    assumed: bool = False
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    memory_seen: bool = True

    def to_mapping(self) -> dict[str, Any]:
        """Return the description as a JSON-ready mapping."""
        facts = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        options = {op: list(names) for op, names in self.options.items()}
        return facts | {
            "ops": list(self.ops),
            "dtypes": list(self.dtypes),
            "contract": self.contract.to_mapping(),
            "versions": dict(self.versions),
            "machine": dict(self.machine),
            "options": options,
        }

    @classmethod
    def from_mapping(cls, told: Mapping[str, Any]) -> Self:
        """Description from what a worker, or a file, tells; SubjectError where its contract is none."""
        return cls(
            name=told["name"],
            ops=tuple(told["ops"]),
            dtypes=tuple(told["dtypes"]),
            contract=Contract.from_mapping(told["contract"]),
            beta=told["beta"],
            versions=told["versions"],
            machine=told["machine"],
            compiles=told["compiles"],
            assumed=told["assumed"],
            options={op: tuple(options) for op, options in told["options"].items()},
            memory_seen=told["memory_seen"],
        )


class Worker:
    """A subject in a process of its own; use it as a context manager, or close it.

    Parameters
    ----------
    subject : what `load` takes, loaded in a fresh interpreter; or a Backend, served by a fork.
    op : the op that the subject's function computes, as for `load`.
    contract : overrides what the subject declares.
    limits : time and memory of loading and of each call.
    timed : its speed is measured, so that threads of OpenMP wait as they are used to. Else they sleep while
        they wait: spinning, they take the processors from each other where several workers run.
    python : interpreter of another environment, which holds the subject's library and what `softcert run`
        needs; this one by default.

    Attributes
    ----------
    restarts : how often a process had to be replaced: after a crash, a hang, exhausted memory, and where what
        a compiler keeps took half of it.

    Raises
    ------
    SubjectError : there is no such interpreter.

    Notes
    -----
    The process starts when it is first needed. It leads a session of its own, reads an empty input,
    and what it prints is dropped. Not to be used from several threads at once.
    """

    def __init__(
        self,
        subject: str | Backend,
        *,
        op: str | None = None,
        contract: Contract | None = None,
        limits: Limits = Limits(),
        timed: bool = False,
        python: str | None = None,
    ) -> None:
        if python is not None and shutil.which(python) is None:
            raise SubjectError(f"there is no Python at {python}")
        self._subject = subject
        self._timed = timed
        self._python = python
        self._op = op
        self._contract = contract
        self._limits = limits
        self._process: WorkerProcess | None = None
        self._description: Description | None = None
        self._first_seconds: dict[str, float] = {}
        self._called: set[str] = set()
        self._gave_up: set[str] = set()
        self.restarts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if sys.is_finalizing():
            return
        process = getattr(self, "_process", None)
        if process is not None:
            process.kill()

    @property
    def description(self) -> Description:
        """What the subject is, as it said when it was loaded.

        Raises
        ------
        SubjectError : it cannot be loaded; a crash and a hang while loading included.
        """
        if self._description is None:
            self._start()
        assert self._description is not None  # noqa: S101 - _start set it or raised
        return self._description

    def call(self, call: Call) -> Reply:
        """Reply to one call; nothing that the subject does raises here.

        Raises
        ------
        SubjectError : the subject could not be loaded in the first place.
        ValueError : an op that the subject does not have, or a layout that does not exist.
        """
        _check(call, self.description)
        if self._process is None:
            try:
                self.restarts += 1
                self._start()
            except SubjectError as error:
                return Failure("crash", f"after a restart, {error}")
        assert self._process is not None  # noqa: S101 - just started
        header = {
            "op": call.op,
            "params": {name: _plain(value) for name, value in call.params.items()},
            "layout": call.layout,
            "repeat": call.repeat,
            "masked": call.mask is not None,
            "measured": call.measured,
            "timed": call.timed,
        }
        allowed = self._allowance(call)
        try:
            reply, arrays = self._process.exchange(header, call.arrays, allowed)
            self._called.add(call.op)
            return self._understood(reply, arrays)
        except WorkerSilent:
            return self._hung(call, allowed)
        except WorkerDied as event:
            return self._died(str(event))
        except (KeyError, TypeError, ValueError, IndexError):
            return self._died(INTRUDED)
        except BaseException:
            # An interrupted exchange leaves half a reply behind.
            self.close()
            raise

    def close(self) -> None:
        """End the process and everything that it left running; a later call starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        self._called.clear()

    # --- what a reply says -----------------------------------------------------------------------

    def _understood(self, reply: Mapping[str, Any], arrays: tuple[Array, ...]) -> Reply:
        if self.description.compiles and reply["held_bytes"] > self._limits.memory_bytes // 2:
            # Compilers keep a program for every shape; what they hold is not the next call's fault.
            self.close()
        if reply["reply"] == "failure":
            if reply["kind"] == "memory" or reply["lost"]:
                # What filled the memory may still be held there; a program that is lost is not started anew.
                self.close()
            return Failure(reply["kind"], str(reply["message"]), bool(reply["by_subject"]))
        count = int(reply["results"])
        values, distinct = arrays[:count], arrays[count:] or None
        memory = reply["peak_bytes"], reply["kept_bytes"]
        effects = tuple(reply["side_effects"])
        return Output(values, float(reply["seconds"]), distinct, effects, *memory, str(reply["clock"]))

    def _hung(self, call: Call, allowed: float) -> Failure:
        assert self._process is not None  # noqa: S101 - it was just asked
        place = self._process.traced(ask=True)
        self.close()
        self._gave_up.add(call.op)
        where = f"; it was at {place}" if place else ""
        return Failure("hang", f"no result within {allowed:g} s{where}")

    def _died(self, otherwise: str) -> Failure:
        assert self._process is not None  # noqa: S101 - it was just asked
        message = self._process.obituary(otherwise)
        self.close()
        return Failure("crash", message)

    def _allowance(self, call: Call) -> float:
        """Seconds for a call and all its repetitions."""
        elements = _work(call) * max(call.repeat, 1)
        seconds = self._limits.seconds + self._limits.seconds_per_element * elements
        if call.op in self._called or call.op in self._gave_up:
            return seconds
        # The first call in a process may import and compile.
        if self.description.compiles:
            return max(seconds, self._limits.load_seconds)
        return max(seconds, min(3 * seconds, self._limits.load_seconds))

    # --- loading ---------------------------------------------------------------------------------

    def _start(self) -> None:
        order, backend = None, None
        if isinstance(self._subject, str):
            order = self._order()
        else:
            if self._python is not None:
                raise SubjectError(f"{self._name} lives in this process, and cannot be run by another Python")
            require_forkable(self._subject)
            backend = self._restricted(self._subject)
        memory = self._limits.memory_bytes
        self._process = WorkerProcess(backend, memory, timed=self._timed, python=self._python)
        try:
            reply, _ = self._process.exchange(order, (), self._limits.load_seconds)
            described = None if reply["reply"] == "unloadable" else _described(reply)
        except WorkerSilent:
            place = self._process.traced(ask=True)
            self.close()
            where = f" (it was at {place})" if place else ""
            raise SubjectError(
                f"loading {self._name} took longer than {self._limits.load_seconds:g} s{where}"
            ) from None
        except (WorkerDied, KeyError, TypeError, ValueError, AttributeError) as event:
            otherwise = str(event) if isinstance(event, WorkerDied) else INTRUDED
            message = self._process.obituary(otherwise)
            self.close()
            raise SubjectError(f"loading {self._name} failed: {message}") from None
        except BaseException:
            self.close()
            raise
        if described is None:
            self.close()
            raise SubjectError(str(reply.get("message")))
        self._description = described

    @property
    def _name(self) -> str:
        return self._subject if isinstance(self._subject, str) else self._subject.name

    def _order(self) -> dict[str, Any]:
        # Another environment's libraries are its own.
        path = sys.path if self._python is None else [""]
        return {
            "subject": self._subject,
            "op": self._op,
            "contract": None if self._contract is None else self._contract.to_mapping(),
            "path": [os.path.abspath(entry) for entry in path],  # noqa: PTH100 - "" is the current folder
            "limits": {"memory_bytes": self._limits.memory_bytes},
        }

    def _restricted(self, backend: Backend) -> Backend:
        from dataclasses import replace

        if self._op is not None:
            if self._op not in backend.ops:
                raise SubjectError(
                    f"backend {backend.name!r} has no {self._op}; it has {', '.join(backend.ops)}"
                )
            backend = replace(backend, ops={self._op: backend.ops[self._op]})
        return backend if self._contract is None else replace(backend, contract=self._contract)


def _work(call: Call) -> int:
    """How many elements a call goes through: those of the first operand, for attention each with each key."""
    size = int(call.operands[0].size)
    if not takes_scores(call.op) or call.operands[1].ndim < 2:
        return size
    return max(size, int(size * call.operands[1].shape[-2] / 32))


def _described(reply: Mapping[str, Any]) -> Description:
    return Description.from_mapping(reply)


def _check(call: Call, description: Description) -> None:
    from softcert.backends.types import LAYOUTS

    if call.op not in description.ops:
        raise ValueError(f"{description.name} has no op {call.op!r}; it has {', '.join(description.ops)}")
    if call.layout not in LAYOUTS:
        raise ValueError(f"layout {call.layout!r} is not one of {', '.join(LAYOUTS)}")


def _plain(value: int | float) -> int | float:
    """JSON-ready number of a parameter, which may be NumPy's."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return int(value) if isinstance(value, (int, np.integer)) else float(value)
