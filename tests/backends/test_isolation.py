"""The worker: whatever a subject does is a reply, and the next call is answered."""

import os
import platform
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from softcert.backends import (
    DTYPES,
    LAYOUTS,
    Backend,
    Call,
    Contract,
    Failure,
    Limits,
    Output,
    SubjectError,
    Worker,
    as_dtype,
    load,
)
from softcert.backends.harmless import row_operands
from softcert.backends.ops import ROW_OPS

X = np.array([[0.0, 1.0, 2.0, -1.0], [3.0, 0.5, -2.0, 1.0]])
SOFT = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
CALL = Call("softmax", (X,))
QUICK = Limits(seconds=0.4, load_seconds=5.0, memory_bytes=1 << 28)
PRELUDE = """
import ctypes, os, signal, subprocess, sys, threading, time
import numpy as np

LIBM = ctypes.CDLL("libm.so.6")
BUFFER = np.empty((2, 4))
COUNT = []

def good(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)

def flush_to_zero():
    environment = ctypes.create_string_buffer(64)
    LIBM.fegetenv(environment)
    control = int.from_bytes(environment.raw[28:32], "little") | 0x8040
    LIBM.fesetenv(environment.raw[:28] + control.to_bytes(4, "little"))
"""


def kernel_file(path, body, top=""):
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(f"{PRELUDE}\n{top}\n\ndef softmax(x, axis=-1):\n{lines}\n")
    return f"{path}:softmax"


@pytest.fixture
def worker(tmp_path):
    """Start a worker on a softmax with the given body, of an array `x`."""
    opened = []

    def start(body, limits=QUICK, top=""):
        opened.append(Worker(kernel_file(tmp_path / "kernel.py", body, top), limits=limits))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


#: Bodies of a softmax; each is run where the first logit is 100 plus its number, by one worker for all.
BODIES = []


def body(text):
    """Register a body; return the call that runs it."""
    BODIES.append(text)
    return Call("softmax", (np.where(X == 0.0, 99.0 + len(BODIES), X),))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    functions = "".join(
        f"\ndef body_{number}(x):\n" + "\n".join(f"    {line}" for line in text.splitlines()) + "\n"
        for number, text in enumerate(BODIES)
    )
    choose = "if x[0, 0] >= 100:\n    return globals()[f'body_{int(x[0, 0]) - 100}'](x)\nreturn good(x)"
    path = tmp_path_factory.mktemp("shared") / "kernel.py"
    with Worker(kernel_file(path, choose, functions), limits=QUICK) as one:
        yield one


def assert_good(reply, value=SOFT):
    assert isinstance(reply, Output), reply
    np.testing.assert_allclose(reply.value, value, rtol=1e-14)
    assert reply.side_effects == ()
    assert reply.distinct is None
    assert reply.seconds > 0


@pytest.mark.parametrize(
    ("call", "kind", "words", "restarts"),
    [
        (
            body("ctypes.string_at(0)"),
            "crash",
            r"SIGSEGV \(segmentation fault\) at kernel\.py:\d+ in body_",
            1,
        ),
        (body("os.abort()"), "crash", "SIGABRT", 1),
        (body("os._exit(0)"), "crash", "exited with status 0", 1),
        (body("os._exit(7)"), "crash", "exited with status 7", 1),
        (body("os.kill(os.getpid(), signal.SIGKILL)"), "crash", "SIGKILL", 1),
        (body("os.closerange(3, 64); os._exit(0)"), "crash", "exited with status 0", 1),
        (body("os.fork() or time.sleep(60); os._exit(1)"), "crash", "exited with status 1", 1),
        (body("time.sleep(60)"), "hang", r"no result within .* s; it was at kernel\.py:\d+ in body_", 1),
        (body("while True: pass"), "hang", "no result", 1),
        (body("while True: print('softmax' * 1000)"), "hang", "no result", 1),
        (body("ctypes.PyDLL(None).sleep(60)"), "hang", "no result", 1),
        (body("hold = [np.empty(1 << 22) for _ in range(64)]"), "memory", "MemoryError", 1),
        (body("raise ValueError('wrong\\nnumber')"), "exception", r"^ValueError: wrong number \(kernel", 0),
        (body("raise ValueError('long' * 1000)"), "exception", "^ValueError: long", 0),
        (body("import mmap; mmap.mmap(-1, 1 << 40)"), "memory", "Cannot allocate memory", 1),
        (body("raise MemoryError"), "memory", "MemoryError", 1),
        (body("raise RuntimeError('CUDA out of memory')"), "memory", "out of memory", 1),
        (body("sys.exit(0)"), "exception", "SystemExit: 0", 0),
        (body("raise KeyboardInterrupt"), "exception", "KeyboardInterrupt", 0),
        (body("return softmax(x)"), "exception", "RecursionError", 0),
        (body("return None"), "output", "returned None", 0),
        (body("return 'probabilities'"), "output", "returned a str", 0),
        (body("return x + 1j"), "output", "complex128", 0),
        (body("return x.astype(object)"), "output", "object", 0),
        (body("return np.broadcast_to(x[0, 0], (10**6, 10**6))"), "output", "far larger than its input", 0),
    ],
)
def test_failures_are_replies_and_the_next_call_is_answered(shared, call, kind, words, restarts):
    # Answered once, so that the first call's larger allowance does not slow the test.
    assert_good(shared.call(CALL))
    before = shared.restarts
    reply = shared.call(call)
    assert isinstance(reply, Failure)
    assert reply.kind == kind, reply
    assert len(reply.message) < 400
    assert re.search(words, reply.message), reply.message
    assert_good(shared.call(CALL))
    assert shared.restarts - before == restarts


def test_first_call_may_take_longer_and_a_hang_only_once(worker):
    one = worker("time.sleep(60)", Limits(seconds=0.2, load_seconds=5.0))
    started = time.monotonic()
    assert one.call(CALL).kind == "hang"
    first = time.monotonic() - started
    assert one.call(CALL).kind == "hang"
    assert 0.5 < first < 3.0
    assert one.restarts == 1


@pytest.fixture
def crowded():
    """One processor for this process and what it starts, and five others that want it all the time."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    # In sessions of their own, as the worker is: the system shares a processor out among sessions first.
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(5)
    ]
    yield
    for process in busy:
        process.kill()
        process.wait()
    os.sched_setaffinity(0, before)


COMPUTES = """
end = time.process_time() + (0.5 if x[0, 0] == 100 else 0.0)
while time.process_time() < end:
    pass
return good(x)
"""


def test_waiting_for_a_processor_does_not_count_as_the_time_of_a_call(worker, crowded):
    one = worker(COMPUTES, Limits(seconds=1.5, load_seconds=30.0))
    assert_good(one.call(CALL))
    started = time.monotonic()
    # A sixth of the processor's time or less, so that half a second of computing takes longer than the limit.
    assert_good(one.call(Call("softmax", (X + 100,))))
    assert time.monotonic() - started > 1.5
    assert one.restarts == 0


def test_a_hang_is_noticed_on_a_crowded_machine_too(worker, crowded):
    for body in ("time.sleep(60)", "while True: pass"):
        started = time.monotonic()
        assert worker(body, Limits(seconds=0.3, load_seconds=30.0)).call(CALL).kind == "hang"
        assert time.monotonic() - started < 25.0


@pytest.mark.parametrize(
    ("call", "effect"),
    [
        (body("x -= x.max(-1, keepdims=True)\nreturn good(x)"), "input-modified"),
        (body("y = good(x)\nx.shape = (-1,)\nreturn y"), "input-modified"),
        (body("return np.divide(good(x), 1.0, out=x)"), "output-aliases-input"),
        (body("return x[:, ::-1]"), "output-aliases-input"),
        (body("COUNT.append(1)\nBUFFER.fill(len(COUNT))\nreturn BUFFER"), "earlier-output-changed"),
        (body("y = good(x)\nLIBM.fesetround(0x800)\nreturn y"), "rounding-mode"),
        (body("y = good(x)\nLIBM.fesetround(0x400)\nreturn y"), "rounding-mode"),
        (body("y = good(x)\nflush_to_zero()\nreturn y"), "flush-to-zero"),
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets x86's control registers")
def test_side_effects_are_seen_and_undone(shared, call, effect):
    shared.call(call)
    assert effect in shared.call(call).side_effects
    # The caller's own operands are not what was handed over.
    np.testing.assert_array_equal(call.operands[0][1], X[1])
    shared.call(CALL)
    assert_good(shared.call(CALL))


def test_a_subject_that_flushes_on_loading_is_reported_with_every_call(worker):
    one = worker("return good(x)", top="LIBM.fesetround(0x800)")
    for _ in range(2):
        assert one.call(CALL).side_effects == ("rounding-mode",)


def test_a_first_call_unlike_the_next_is_reported_with_every_call(worker):
    one = worker("COUNT.append(1)\nreturn good(x) * (len(COUNT) > 1)")
    for _ in range(2):
        reply = one.call(CALL)
        assert reply.side_effects == ("first-call-differs",)
        np.testing.assert_allclose(reply.value.sum(axis=-1), 1.0)


def test_repetitions_see_the_same_operands_and_differences_are_kept(worker):
    one = worker("COUNT.append(1)\nx += 1\nreturn good(x) + len(COUNT)")
    reply = one.call(Call("softmax", (X,), repeat=3))
    # The count differs from the first call on, which finds out how the function is called.
    assert reply.side_effects == ("first-call-differs", "input-modified")
    # The operands are put right between the repetitions: only the count differs.
    difference = reply.value - reply.distinct[0]
    np.testing.assert_allclose(difference, np.full_like(X, 1.0), rtol=1e-12)
    with Worker(load("numpy")) as steady:
        assert steady.call(Call("softmax", (X,), repeat=3)).distinct is None


@pytest.mark.parametrize(
    ("call", "dtype", "shape"),
    [
        (body("return good(x).astype(np.float16)"), "float16", (2, 4)),
        (body("return good(x).astype('>f8')"), "float64", (2, 4)),
        (body("return good(x).ravel()"), "float64", (8,)),
        (body("return good(x)[:0]"), "float64", (0, 4)),
        (body("return (good(x) > 0.5)"), "bool", (2, 4)),
        (body("return good(x).tolist()"), "float64", (2, 4)),
        (body("return np.float32(0.5)"), "float32", ()),
        (body("return good(x).astype(np.longdouble)"), np.dtype(np.longdouble).name, (2, 4)),
    ],
)
def test_odd_outputs_arrive_as_they_are(shared, call, dtype, shape):
    reply = shared.call(call)
    assert isinstance(reply, Output), reply
    assert (reply.value.dtype.name, reply.value.shape) == (dtype, shape)


OVER_READ = body("ctypes.string_at(x.ctypes.data, x.nbytes + 1)\nreturn good(x)")
EXACT_READ = body("ctypes.string_at(x.ctypes.data, x.nbytes)\nreturn good(x)")
UNWRITTEN = body("y = np.empty_like(x)\ny[:, :3] = good(x)[:, :3]\nreturn y")


def test_reading_past_the_input_crashes_at_once(shared):
    assert isinstance(shared.call(EXACT_READ), Output)
    reply = shared.call(OVER_READ)
    assert (reply.kind, "SIGSEGV" in reply.message) == ("crash", True)


def test_unwritten_outputs_are_poison(shared):
    assert np.isnan(shared.call(UNWRITTEN).value[:, 3]).all()


def test_unwritten_outputs_are_poison_on_the_first_call_too(worker):
    assert np.isnan(worker(BODIES[-1]).call(CALL).value[:, 3]).all()


def processes_of(marker):
    found = []
    for process in psutil.process_iter():
        try:
            if marker in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("end", ["", "os._exit(1)", "time.sleep(60)"])
def test_children_of_the_subject_do_not_stay(worker, end, tmp_path):
    marker = f"orphan-{os.getpid()}-{tmp_path.name}"
    start = f"subprocess.Popen([{marker!r}, '61'], executable=SLEEP, start_new_session=True)"
    link = tmp_path / marker
    link.symlink_to("/bin/sleep")
    one = worker(f"{start}\n{end}\nreturn good(x)", top=f"SLEEP = {str(link)!r}")
    one.call(CALL)
    if not end:
        assert processes_of(marker)
    one.close()
    deadline = time.monotonic() + 2
    while processes_of(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_of(marker) == []


def test_a_worker_ends_with_its_judge(tmp_path):
    kernel = tmp_path / "kernel.py"
    kernel.write_text("import ctypes\ndef softmax(x):\n    ctypes.PyDLL(None).sleep(60)\n")
    judge = (
        "import numpy as np, threading, time\nfrom softcert.backends import *\n"
        f"w = Worker({str(kernel)!r}); w.description\n"
        "print(w._process.pid, flush=True)\n"
        "w.call(Call('softmax', (np.zeros(3),)))\n"
    )
    with subprocess.Popen([sys.executable, "-c", judge], stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        time.sleep(0.3)
        assert psutil.pid_exists(pid)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 3
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import ctypes\nctypes.string_at(0)\n", r"failed: the process was killed by SIGSEGV .*kernel\.py:2"),
        ("import os\nos._exit(0)\n", "failed: the process exited with status 0"),
        ("import os\nos.kill(os.getppid(), 9)\nwhile True: pass\n", "failed: the process killed its parent"),
        ("import os\nos.closerange(3, 99)\nwhile True: pass\n", "failed: the process closed the connection"),
        ("while True: pass\n", r"longer than 1 s \(it was at kernel\.py:1"),
        ("import sys\nsys.exit('no')\n", r"SystemExit: no \(kernel\.py:2\)"),
        ("def softmax(:\n", "SyntaxError"),
        ("def softmax(x, mask):\n    return x\n", "requires an argument 'mask'"),
    ],
)
def test_subjects_that_cannot_be_loaded(tmp_path, text, words):
    path = tmp_path / "kernel.py"
    path.write_text(text)
    # Longer only where it is not waited for: a busy machine takes a second to start an interpreter.
    with Worker(str(path), limits=Limits(load_seconds=1.0 if "longer" in words else 30.0)) as one:
        with pytest.raises(SubjectError, match=words):
            _ = one.description
        with pytest.raises(SubjectError):
            one.call(CALL)


def test_description():
    with Worker("scipy.special:softmax", contract=Contract(exp_ulp=2.0)) as one:
        described = one.description
    assert described.name == "scipy.special:softmax"
    assert described.ops == ("softmax",)
    assert described.dtypes == ("float64", "float32")
    assert described.contract == Contract(exp_ulp=2.0)
    assert not described.beta
    assert {"python", "numpy", "scipy"} <= set(described.versions)
    assert {"system", "architecture", "processor", "cpus", "libc"} <= set(described.machine)


def test_every_layout_and_dtype_gives_the_same_numbers():
    with Worker("numpy") as one:
        for op in ROW_OPS:
            for dtype in DTYPES:
                given = row_operands(op, SOFT.astype(as_dtype(dtype)), 0)
                replies = [one.call(Call(op, given, {"axis": 0}, layout)) for layout in LAYOUTS]
                assert all(reply.value.dtype == as_dtype(dtype) for reply in replies)
                for reply in replies:
                    assert reply.side_effects == ()
                    np.testing.assert_allclose(
                        reply.value.astype(float), replies[0].value.astype(float), rtol=1e-2, atol=1e-3
                    )
        assert one.restarts == 0
        result = one.call(Call("softmax", (X,), {"axis": np.int64(-1), "beta": np.float32(0.5)}))
        np.testing.assert_allclose(
            result.value, np.sqrt(SOFT) / np.sqrt(SOFT).sum(-1, keepdims=True), rtol=1e-14
        )


def test_requests_that_cannot_be_answered():
    with Worker("scipy") as one:
        with pytest.raises(ValueError, match="scipy has no op 'softmax_vjp'; it has softmax"):
            one.call(Call("softmax_vjp", (X, X)))
        with pytest.raises(ValueError, match="layout 'spiral' is not one of"):
            one.call(Call("softmax", (X,), layout="spiral"))


FATAL = Call("softmax", (np.where(X == 0.0, 9.0, X),))


def test_a_backend_object_is_served_by_a_fork(capsys):
    def softmax(x, axis=-1):
        if x[0, 0] == 9.0:
            os.kill(os.getpid(), signal.SIGSEGV)
        print("noise")  # noqa: T201 - must not reach the terminal
        return load("numpy").ops["softmax"](x, axis)

    with Worker(Backend("mine", {"softmax": softmax, "logsumexp": softmax}), op="softmax") as one:
        assert one.description.ops == ("softmax",)
        assert_good(one.call(CALL))
        assert "SIGSEGV" in one.call(FATAL).message
        assert_good(one.call(CALL))
        assert one.restarts == 1
    assert capsys.readouterr().out == ""
    with Worker(load("numpy"), op="softmax", contract=Contract(exp_ulp=1.0)) as one:
        assert one.description.contract.exp_ulp == 1.0
    with (
        Worker(load("scipy"), op="softmax_jvp") as one,
        pytest.raises(SubjectError, match="has no softmax_jvp"),
    ):
        _ = one.description


def test_large_operands_cross_whole():
    x = np.random.default_rng(3).normal(size=(300, 1001))
    with Worker("numpy") as one:
        assert_good(one.call(Call("softmax", (x,))), load("numpy").ops["softmax"](x))


def test_the_subject_sees_no_input_and_no_arguments(worker):
    one = worker("return good(x) + len(sys.stdin.read()) + len(sys.argv) - 1", top="print('loading')")
    assert_good(one.call(CALL))


def test_sixty_four_bit_jax_unless_told_otherwise(worker, monkeypatch):
    monkeypatch.delenv("JAX_ENABLE_X64", raising=False)
    assert_good(worker("return good(x) * int(os.environ['JAX_ENABLE_X64'])").call(CALL))
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    assert (worker("return good(x) * int(os.environ['JAX_ENABLE_X64'])").call(CALL).value == 0).all()


def test_a_worker_can_be_closed_and_used_again():
    one = Worker("numpy")
    assert_good(one.call(CALL))
    one.close()
    one.close()
    assert_good(one.call(CALL))
    one.close()


def test_what_a_compiler_keeps_is_not_held_against_a_later_call(tmp_path):
    (tmp_path / "keeps.py").write_text(
        "import pyximport\nimport numpy as np\nkept = []\n"
        "def softmax(x, axis=-1):\n"
        "    kept.append(np.ones(1 << 22))\n"
        "    e = np.exp(x - x.max(axis, keepdims=True))\n"
        "    return e / e.sum(axis, keepdims=True)\n"
    )
    (tmp_path / "pyximport.py").write_text("# stands for a library that compiles\n")
    limits = Limits(memory_bytes=1 << 28)
    with Worker(f"{tmp_path / 'keeps.py'}:softmax", op="softmax", limits=limits) as one:
        for _ in range(16):
            assert_good(one.call(CALL))
        assert one.restarts >= 2
    (tmp_path / "pyximport.py").unlink()
    (tmp_path / "keeps.py").write_text((tmp_path / "keeps.py").read_text().replace("import pyximport", ""))
    with Worker(f"{tmp_path / 'keeps.py'}:softmax", op="softmax", limits=limits) as one:
        replies = [one.call(CALL) for _ in range(16)]
    assert any(isinstance(reply, Failure) and reply.kind == "memory" for reply in replies)


def test_another_python_runs_the_subject_with_libraries_of_its_own(tmp_path, monkeypatch):
    """A path that is this interpreter's alone is not searched; the current folder is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "only_here.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "mine")
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexport OTHER=yes\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    body = "found = importlib.util.find_spec('only_here') is not None\n"
    body += "return np.full_like(x, 2 * ('OTHER' in os.environ) + found)"
    subject = kernel_file(tmp_path / "k.py", body, top="import importlib.util")
    for python, expected in ((None, 1), (str(other), 2)):
        with Worker(subject, python=python) as worker:
            assert np.all(worker.call(CALL).values[0] == expected)


def test_a_python_that_is_none_and_one_for_a_function_of_this_process_are_refused(tmp_path):
    with pytest.raises(SubjectError, match="there is no Python at"):
        Worker("numpy", python=str(tmp_path / "python"))
    with (
        Worker(Backend("mine", {"softmax": load("numpy").ops["softmax"]}), python=sys.executable) as worker,
        pytest.raises(SubjectError, match="lives in this process"),
    ):
        _ = worker.description


STOPPED = """
import sys
from softcert.backends import Call, Limits, Worker
import numpy as np

call = Call("softmax", (np.zeros((2, 4)),))
with Worker(sys.argv[1], limits=Limits(seconds=1.5)) as worker:
    print(type(worker.call(call)).__name__, flush=True)
    print(type(worker.call(call)).__name__, flush=True)
"""


def test_the_time_in_which_a_run_is_stopped_is_nobodys(tmp_path):
    """A subject that waits in small steps, so that it cannot have finished meanwhile."""
    subject = kernel_file(tmp_path / "k.py", "for _ in range(8):\n    time.sleep(0.1)\nreturn good(x)")
    command = [sys.executable, "-c", STOPPED, subject]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as judge:
        assert judge.stdout.readline().strip() == "Output"
        time.sleep(0.2)
        judging = psutil.Process(judge.pid)
        everyone = [judging, *judging.children(recursive=True)]
        for process in everyone:
            process.suspend()
        time.sleep(4.0)
        for process in everyone:
            process.resume()
        assert judge.stdout.readline().strip() == "Output"
