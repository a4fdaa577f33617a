"""One line for whatever foreign code raises, and whether it was foreign code that raised it."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
#: Descriptors of the interpreter's own: a class, and the class of a class, may put others in their place.
_NAME, _TRACEBACK = type.__dict__["__name__"], BaseException.__dict__["__traceback__"]


class UnsupportedError(TypeError):
    """A call needs what the subject's signature has no place for: softcert refuses on its behalf."""


def call_foreign(function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Call a subject's function; a traceback that leads through here is the subject's.

    A tracer that it leaves behind, or a limit too low, would stop what is done afterwards.
    """
    tracer, profiler, limit = sys.gettrace(), sys.getprofile(), sys.getrecursionlimit()
    try:
        return function(*arguments, **keywords)
    finally:
        if sys.getprofile() is not profiler:
            sys.setprofile(profiler)
        if sys.gettrace() is not tracer:
            sys.settrace(tracer)
        if sys.getrecursionlimit() < limit:
            sys.setrecursionlimit(limit)


def raised_by_subject(error: BaseException) -> bool:
    """Whether an exception comes out of a subject's function, or says what the function does not take."""
    if issubclass(type(error), (NotImplementedError, UnsupportedError)):
        return True
    return any(frame.f_code is call_foreign.__code__ for frame, _ in _frames(error))


def describe_exception(error: BaseException, limit: int = 300) -> str:
    """One bounded line for an exception, with the place in the subject's code where it was raised."""
    try:
        # Cut before anything goes through it: it may be of any length, and of a class that only seems a str.
        words = _one_line(str.__getitem__(str(error), slice(4 * limit)))
    except BaseException:  # noqa: BLE001 - a foreign __str__ may do anything
        words = "(its message cannot be printed)"
    name = _one_line(_NAME.__get__(type(error))[:limit])
    text = f"{name}: {words}" if words else name
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    place = _place_raised(error)
    return f"{text} ({place})" if place else text


def _one_line(text: str) -> str:
    """The words of a text with single spaces between them, and codes for what a terminal would obey."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def _place_raised(error: BaseException) -> str:
    own = tuple(str(Path(module).resolve().parent) for module in (__file__, importlib.__file__))
    for frame, line in reversed(list(_frames(error))):
        name = frame.f_code.co_filename
        if not (name.startswith("<") or str(Path(name).resolve()).startswith(own)):
            return f"{_one_line(Path(name).name)}:{line}"
    return ""


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    trace: TracebackType | None = _TRACEBACK.__get__(error)
    yield from traceback.walk_tb(trace)
