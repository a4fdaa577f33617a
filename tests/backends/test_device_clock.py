"""The clock of a GPU, tried against a stand-in whose time passes by our word."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from softcert.backends import Worker, device_clock
from softcert.backends.device_clock import leaving, moved, replayed, ticking
from softcert.backends.gpu import gpu_there as gpu_there_is
from softcert.backends.types import Call


class Tensor:
    """On a host, or a GPU; to go there takes 7 ms."""

    def __init__(self, gpu, *, is_cuda=False):
        self.gpu, self.is_cuda, self.clones = gpu, is_cuda, 0

    def to(self, device):
        self.gpu.now += 7.0
        return Tensor(self.gpu, is_cuda=device == "cuda")

    def detach(self):
        return self

    def clone(self):
        self.clones += 1
        return Tensor(self.gpu, is_cuda=True)


class Gpu:
    """Milliseconds that pass, and graphs that remember how long what they hold takes."""

    def __init__(self, *, captures=True):
        self.now, self.captured = 0.0, None
        gpu = self

        class Event:
            def __init__(self, *, enable_timing):
                assert enable_timing

            def record(self):
                self.at = gpu.now

            def synchronize(self):
                pass

            def elapsed_time(self, end):
                return end.at - self.at

        class CUDAGraph:
            def replay(self):
                gpu.now += gpu.captured

        @contextlib.contextmanager
        def graph(_graph):
            if not captures:
                raise RuntimeError("operation not permitted when stream is capturing")
            before = gpu.now
            yield
            # Without the launches, half of the time.
            gpu.captured, gpu.now = (gpu.now - before) / 2, before

        self.cuda = SimpleNamespace(Event=Event, CUDAGraph=CUDAGraph, graph=graph, synchronize=lambda: None)


def gpu_there(monkeypatch, **facts):
    gpu = Gpu(**facts)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=gpu.cuda))
    monkeypatch.setattr(device_clock, "_UNCAPTURED", {})
    return gpu


def computed(gpu, milliseconds):
    tensor = moved(Tensor(gpu), "cuda")
    other = moved(Tensor(gpu), "cuda")
    gpu.now += milliseconds
    leaving(tensor)
    gpu.now += 100.0  # the copy to the host
    leaving(other)
    return tensor


def test_events_leave_the_copies_out(monkeypatch):
    gpu = gpu_there(monkeypatch)
    with ticking() as clock:
        computed(gpu, 3.0)
    assert clock.told(9.0) == (pytest.approx(3e-3), "cuda-events")


def test_a_function_of_single_rows_is_added_up(monkeypatch):
    gpu = gpu_there(monkeypatch)
    with ticking() as clock:
        computed(gpu, 3.0)
        computed(gpu, 4.0)
    assert clock.told(9.0) == (pytest.approx(7e-3), "cuda-events")


def test_a_graph_is_replayed_on_copies(monkeypatch):
    gpu = gpu_there(monkeypatch)

    def function(x, scale):
        assert x is not tensor
        gpu.now += 3.0

    with ticking() as clock:
        tensor = computed(gpu, 3.0)
        replayed(function, (tensor,), {"scale": 2.0})
    assert tensor.clones == 1
    assert clock.told(9.0) == (pytest.approx(1.5e-3), "cuda-graph")


def test_what_cannot_be_captured_is_timed_by_events_and_not_tried_again(monkeypatch):
    gpu = gpu_there(monkeypatch, captures=False)
    record = [].append
    for clones in (1, 0):
        with ticking() as clock:
            tensor = computed(gpu, 3.0)
            replayed(record, (tensor,), {})
        assert clock.told(9.0) == (pytest.approx(3e-3), "cuda-events")
        assert tensor.clones == clones


def test_another_function_is_captured_although_one_that_could_not_be_is_gone(monkeypatch):
    """Fresh functions take the place in memory of those before them."""
    gpu = gpu_there(monkeypatch, captures=False)
    for _ in range(50):
        with ticking():
            tensor = computed(gpu, 3.0)
            replayed(lambda _x: None, (tensor,), {})
        assert tensor.clones == 1


def test_the_wall_clock_stands_for_what_stays_on_the_host(monkeypatch):
    gpu = gpu_there(monkeypatch)
    with ticking() as clock:
        tensor = moved(Tensor(gpu), "cpu")
        leaving(tensor)
        replayed(print, (tensor, np.ones(3)), {})
    assert clock.told(9.0) == (9.0, "wall")


def test_nothing_is_marked_where_no_clock_ticks(monkeypatch):
    gpu = gpu_there(monkeypatch)
    tensor = computed(gpu, 3.0)
    replayed(print, (tensor,), {})
    assert tensor.clones == 0


LOADED = """
import sys
import numpy as np

def softmax(x, axis=-1):
    assert "torch" not in sys.modules
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)
"""


def test_a_timed_call_on_a_cpu_is_told_by_the_wall_clock_and_loads_no_framework(tmp_path):
    (tmp_path / "k.py").write_text(LOADED)
    call = Call("softmax", (np.ones((2, 4), np.float32),), timed=True)
    with Worker(f"{tmp_path}/k.py") as worker:
        reply = worker.call(call)
    assert reply.clock == "wall", reply
    assert reply.seconds > 0


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_there_is(), reason="needs a GPU")
def test_a_gpu_tells_the_time_itself():
    call = Call("softmax", (np.ones((64, 4096), np.float32),), timed=True)
    with Worker("torch-cuda", op="softmax") as worker:
        worker.call(call)
        reply = worker.call(call)
    assert reply.clock == "cuda-events"
    assert 0 < reply.seconds < 1
