"""Time of work on a GPU as the GPU tells it: by events around a kernel, or around the replay of its graph.

Where a call is timed, tensors that reach the GPU and results that leave it are marked by the events of CUDA,
so that neither the copies to and from the host nor the conversions there count. A function that is given its
tensors directly is captured as a graph besides, whose replay has no launches in it; where it cannot be
captured, the events stand. Nothing here imports PyTorch: without it no tensor is on a GPU.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

#: Functions that a graph cannot be captured of, by identity: asked again they would fail again. Kept, since
#: another function could be given the identity of one that is gone.
_UNCAPTURED: dict[int, Callable[..., Any]] = {}


class DeviceClock:
    """What the GPU tells of one call."""

    def __init__(self) -> None:
        self._start: Any = None
        # A function of single rows is called once a row: each such call has its own two events.
        self._spans: list[tuple[Any, Any]] = []
        self._graphs: list[float] = []

    def arrive(self) -> None:
        """Mark that an operand has reached the GPU; the last one before a result leaves counts."""
        self._start = _recorded()

    def leave(self) -> None:
        """Mark that a result is about to leave it; the first one after the operands counts."""
        if self._start is not None:
            self._spans.append((self._start, _recorded()))
            self._start = None

    def replay(self, function: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Time the graph of a function on copies of its operands, if it can be captured."""
        if id(function) in _UNCAPTURED:
            return
        torch = sys.modules["torch"]
        try:
            own = [_copied(a) for a in args]
            named = {name: _copied(value) for name, value in keywords.items()}
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                function(*own, **named)
            graph.replay()
            start = _recorded()
            graph.replay()
            self._graphs.append(_between(start, _recorded()))
        except Exception:  # noqa: BLE001 - what cannot be captured says so in words of its own
            _UNCAPTURED[id(function)] = function
            with contextlib.suppress(Exception):
                torch.cuda.synchronize()

    def told(self, wall: float) -> tuple[float, str]:
        """Seconds and what told them: the GPU where it did anything, else the wall clock's."""
        if not self._spans:
            return wall, "wall"
        if len(self._graphs) == len(self._spans):
            return sum(self._graphs), "cuda-graph"
        return sum(_between(*span) for span in self._spans), "cuda-events"


_current: ContextVar[DeviceClock | None] = ContextVar("device_clock", default=None)


@contextlib.contextmanager
def ticking() -> Iterator[DeviceClock]:
    """Let a clock see what the block does on a GPU."""
    clock = DeviceClock()
    token = _current.set(clock)
    try:
        yield clock
    finally:
        _current.reset(token)


def moved(tensor: Any, device: Any) -> Any:
    """The tensor on a device, marked as there."""
    there = tensor.to(device)
    clock = _current.get()
    if clock is not None and _on_gpu(there):
        clock.arrive()
    return there


def leaving(tensor: Any) -> None:
    """Mark that a result is about to be copied to the host."""
    clock = _current.get()
    if clock is not None and _on_gpu(tensor):
        clock.leave()


def replayed(function: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Time a function again by its graph, where a clock ticks and it was given tensors on a GPU.

    To be called when its results are on the host, which nothing done here then changes.
    """
    clock = _current.get()
    if clock is not None and any(map(_on_gpu, (*args, *keywords.values()))):
        clock.replay(function, args, keywords)


def _on_gpu(value: Any) -> bool:
    return "torch" in sys.modules and getattr(value, "is_cuda", False) is True


def _copied(value: Any) -> Any:
    """A copy of a tensor on a GPU, since the function may write to it; anything else as it is."""
    return value.detach().clone() if _on_gpu(value) else value


def _recorded() -> Any:
    event = sys.modules["torch"].cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start: Any, end: Any) -> float:
    """Seconds from one event to another, once both are reached."""
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
