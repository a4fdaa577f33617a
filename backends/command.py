"""Commands as subjects: programs that answer frames on stdin and stdout, in any language.

docs/protocol.md is the protocol; the frames are those of `wire`.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from softcert.backends.canonical import CanonicalKernel, Outcome, Problem
from softcert.backends.convert import NotAnArrayError
from softcert.backends.declaration import OF_COMMANDS, read_declaration
from softcert.backends.modules import expanded
from softcert.backends.ops import takes_scores
from softcert.backends.program import Program, ProgramLostError
from softcert.backends.types import Array, Backend
from softcert.errors import SubjectError

#: How a subject begins that is a command.
PREFIX = "command:"
PROTOCOL = 1


class CommandError(Exception):
    """A command answered that a call failed."""


class Command:
    """A program in the middle of a conversation, started anew in each process that talks to it.

    Parameters
    ----------
    words : the program and its arguments.

    Attributes
    ----------
    hello : what it said of itself when it was greeted.
    """

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._program: Program | None = None
        self._starter = 0
        self.hello: Mapping[str, Any] = {}

    def start(self) -> None:
        """Start the program, unless it runs, and greet it.

        Raises
        ------
        ProgramLostError : it cannot be started, or does not greet.
        """
        if self._program is not None and self._starter == os.getpid():
            return
        # That of the process that this one was forked from talks to that one alone.
        self._starter, self._program = os.getpid(), Program(self._words)
        self.hello, _ = self._exchange({"request": "hello", "protocol": PROTOCOL}, ())

    def confine(self, memory_bytes: int) -> None:
        """Start the program and let its memory grow by so many bytes from now on."""
        self.start()
        assert self._program is not None  # noqa: S101 - just started
        self._program.confine(memory_bytes)

    def ask(
        self, header: Mapping[str, Any], arrays: tuple[Array, ...]
    ) -> tuple[Mapping[str, Any], tuple[Array, ...]]:
        """Reply to a request.

        Raises
        ------
        ProgramLostError : there is none, and there will be none to others.
        """
        self.start()
        return self._exchange(header, arrays)

    def _exchange(
        self, header: Mapping[str, Any], arrays: tuple[Array, ...]
    ) -> tuple[Mapping[str, Any], tuple[Array, ...]]:
        assert self._program is not None  # noqa: S101 - started by every caller
        try:
            return self._program.exchange(header, arrays)
        except BaseException:
            # Whatever interrupts an exchange leaves half a reply behind.
            self._program.end()
            self._program = None
            raise


class CommandKernel(CanonicalKernel):
    """One op of a command."""

    def __init__(self, op: str, command: Command) -> None:
        self.op = op
        self.command = command

    def compute(self, problem: Problem) -> Outcome:
        """Results as the command sends them.

        Raises
        ------
        NotImplementedError : the command says that it does not take such a call.
        CommandError : it says that the call failed.
        NotAnArrayError : it sends another number of arrays than the op has results.
        ProgramLostError : it ended, or sent what is no reply.
        """
        header, arrays = _request(problem)
        start = time.perf_counter()
        reply, results = self.command.ask(header, arrays)
        seconds = time.perf_counter() - start
        status, message = reply.get("status"), str(reply.get("message", ""))
        if status == "unsupported":
            raise NotImplementedError(message or f"the command does not take such a {self.op}")
        if status != "ok":
            raise CommandError(message or f"the command replied with the status {status!r}")
        if len(results) != len(problem.results):
            names = ", ".join(name for name, _, _ in problem.results)
            raise NotAnArrayError(f"the command sent {len(results)} arrays, not ({names})")
        return Outcome(results, seconds)


def load_command(subject: str) -> Backend:
    """Backend of the ops that a command says it has.

    Raises
    ------
    SubjectError : it cannot be started, or does not greet as the protocol has it.
    """
    line = subject.removeprefix(PREFIX)
    command = Command(_words(line))
    if sys.byteorder != "little":
        raise SubjectError("commands exchange little-endian numbers, and this machine is big-endian")
    try:
        command.start()
    except ProgramLostError as error:
        raise SubjectError(f"command {line!r} does not answer: {error}") from None
    except NotAnArrayError as error:
        raise SubjectError(f"command {line!r} does not answer as it should: {error}") from None
    where = f"what command {line!r} says of itself"
    hello = dict(command.hello)
    version = hello.pop("protocol", None)
    if version != PROTOCOL:
        raise SubjectError(f"command {line!r} speaks protocol {version!r}, and this is protocol {PROTOCOL}")
    declared = read_declaration(hello, where, OF_COMMANDS)
    ops = declared.pop("ops", None)
    if ops is None:
        raise SubjectError(f"{where} has no list of ops")
    kernels = {op: CommandKernel(op, command) for op in ops}
    return Backend(**{"name": subject, "ops": kernels, "assumed": "dtypes" not in declared, **declared})


def commands_of(backend: Backend) -> set[Command]:
    """The commands that a backend runs on."""
    return {kernel.command for kernel in backend.ops.values() if isinstance(kernel, CommandKernel)}


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise SubjectError(f"command {line!r} cannot be split into words: {error}") from None
    if not words:
        raise SubjectError(f"the command is empty; give {PREFIX}PROGRAM ARGUMENTS")
    # A path would lose the ./ that keeps a program of this folder from being looked for on PATH.
    program = shutil.which(str(expanded(words[0])) if words[0].startswith("~") else words[0])
    if program is None:
        where = "there" if "/" in words[0] else "on PATH"
        raise SubjectError(f"command {line!r} cannot be started: there is no program {words[0]!r} {where}")
    return [program, *words[1:]]


def _request(problem: Problem) -> tuple[dict[str, Any], tuple[Array, ...]]:
    header: dict[str, Any] = {"request": "call", "op": problem.op, "dtype": problem.dtype}
    header |= {name: _number(value) for name, value in problem.params.items()}
    arrays = problem.operands
    if takes_scores(problem.op):
        header["mask"] = "none"
        if problem.mask is not None:
            header["mask"] = "boolean" if problem.mask.dtype.name == "bool" else "additive"
            arrays = (*arrays, problem.mask)
    return header, arrays


def _number(value: float | bool) -> float | bool | str:
    """A number as JSON has it; what it has no literals for goes as a word."""
    return value if isinstance(value, bool) or math.isfinite(value) else str(float(value))
