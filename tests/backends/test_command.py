"""Commands: frames are exchanged with any program, and whatever one does is a reply."""

import os
import sys
import time

import numpy as np
import psutil
import pytest

from softcert.backends import DTYPES, OPS, Call, Failure, Limits, Output, SubjectError, Worker, as_dtype, load
from softcert.backends.command import CommandError
from softcert.backends.harmless import attention_operands

X = np.array([[0.0, 1.0, 2.0, -1.0], [3.0, 0.5, -2.0, 1.0]], dtype=np.float32)
CALL = Call("softmax", (X,))
QUICK = Limits(seconds=1.0, load_seconds=10.0, memory_bytes=1 << 29)
#: A command with nothing but the standard library, as one in any language is.
PROGRAM = """
import json, math, os, signal, struct, sys, time
SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "bool": 1}
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer

def receive():
    prefix = stdin.read(8)
    if len(prefix) < 8:
        raise SystemExit
    header = json.loads(stdin.read(struct.unpack("<4sI", prefix)[1]))
    return header, [stdin.read(math.prod(a["shape"]) * SIZES[a["dtype"]]) for a in header["arrays"]]

def send(header, data=()):
    text = json.dumps(header).encode()
    stdout.write(struct.pack("<4sI", b"SCF1", len(text)) + text + b"".join(data))
    stdout.flush()

def ok(arrays, data):
    send({"status": "ok", "arrays": arrays}, data)

HELLO = {"protocol": 1, "ops": ["softmax"], "arrays": []}
"""
SERVE = """
while True:
    header, data = receive()
    if header["request"] == "hello":
        send(HELLO)
    else:
        reply(header, data)
"""
ECHO = "def reply(header, data): ok(header['arrays'], data)"


@pytest.fixture
def command(tmp_path):
    """Subject of a program with a reply of its own; its file, too, tells its processes from others."""

    def write(reply=ECHO, hello="", serve=SERVE):
        path = tmp_path / f"program-{os.getpid()}.py"
        path.write_text(f"{PROGRAM}\n{hello}\n{reply}\n{serve}\n")
        return f"command:{sys.executable} {path}"

    yield write
    assert gone(f"program-{os.getpid()}.py"), "a program was left behind"


def gone(marker):
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        lines = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
        if not any(marker in line for line in lines):
            return True
        time.sleep(0.05)
    return False


# --- what is exchanged ---


def test_a_command_answers(command):
    said = (
        "HELLO |= {'name': 'echo', 'dtypes': ['float32'], 'beta': True, 'contract': {'exp_ulp': 2},"
        " 'versions': {'engine': 5}}"
    )
    with Worker(command(hello=said), limits=QUICK) as worker:
        described = worker.description
        assert (described.name, described.ops, described.dtypes) == ("echo", ("softmax",), ("float32",))
        assert (described.beta, described.contract.exp_ulp, described.assumed) == (True, 2.0, False)
        assert (described.versions["engine"], described.memory_seen) == ("5", False)
        for x in (X, X.T, X[0], X[:0], np.stack([X, X]), np.zeros((300, 1001), "f4")):
            for axis in (-1, 0):
                reply = worker.call(Call("softmax", (x,), {"axis": axis}))
                assert isinstance(reply, Output), reply
                assert (reply.value.dtype, reply.value.shape) == (x.dtype, x.shape)
                np.testing.assert_array_equal(reply.value, x)
                assert (reply.side_effects, reply.seconds > 0) == ((), True)
        measured = worker.call(Call("softmax", (X,), measured=True))
        assert (measured.peak_bytes, measured.kept_bytes) == (None, None)
        assert worker.restarts == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_every_dtype_go_and_come_bit_by_bit(command, dtype):
    x = np.array([0.1, -0.0, np.inf, np.nan, 1e-8]).astype(as_dtype(dtype))
    with Worker(command(), limits=QUICK) as worker:
        reply = worker.call(Call("softmax", (x,)))
    assert reply.value.dtype == x.dtype
    assert reply.value.tobytes() == x.tobytes()


TOLD = """
def reply(header, data):
    told = {name: header[name] for name in sorted(header)}
    send({"status": "error", "message": json.dumps(told), "arrays": []})
HELLO["ops"] = ["softmax", "attention", "attention_merge"]
"""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Call("softmax", (X,), {"axis": -1, "beta": float("-inf")}), '"beta": "-inf", "dtype": "float32"'),
        (Call("softmax", (X,), {"axis": -1, "beta": 0.1}), '"beta": 0.1,'),
        (Call("softmax", (np.stack([X, X]),)), '[{"dtype": "float32", "shape": [4, 4]}], "beta": 1.0'),
        (
            Call("attention", attention_operands("attention", "float32", ()), {"causal": True}),
            '"causal": true, "dtype": "float32", "mask": "none", "op": "attention", "request": "call"',
        ),
        (
            Call("attention", attention_operands("attention", "float64"), {}, mask=np.ones((3, 3), bool)),
            '{"dtype": "bool", "shape": [1, 2, 3, 3]}], "causal": false, "dtype": "float64", "mask": "bool',
        ),
        (
            Call("attention", attention_operands("attention", "float64"), {}, mask=np.ones((3, 3))),
            '{"dtype": "float64", "shape": [1, 2, 3, 3]}], "causal": false, "dtype": "float64", "mask": "add',
        ),
        (
            Call("attention_merge", attention_operands("attention_merge", "float16"), {}),
            '{"dtype": "float16", "shape": [6, 4]}, {"dtype": "float32", "shape": [6]}',
        ),
    ],
)
def test_what_a_request_says(command, call, words):
    kernel = load(command(TOLD)).ops[call.op]
    options = {} if call.mask is None else {"mask": call.mask}
    try:
        kernel(*call.operands, **call.params, **options)
    except CommandError as error:
        told = str(error)
    assert words in told


def test_refusals_and_errors_are_told_apart(command):
    refuse = "def reply(header, data): send({'status': STATUS, 'message': 'no such mask', 'arrays': []})"
    for status, name in (("unsupported", "NotImplementedError"), ("error", "CommandError")):
        with Worker(command(refuse, f"STATUS = {status!r}"), limits=QUICK) as worker:
            for _ in range(2):
                reply = worker.call(CALL)
                assert (reply.kind, reply.message) == ("exception", f"{name}: no such mask")
            assert worker.restarts == 0


def test_noise_on_stderr_disturbs_nothing(command):
    noise = (
        "def reply(header, data):\n    sys.stderr.write('noise ' * 100000)\n    ok(header['arrays'], data)"
    )
    with Worker(command(noise, "sys.stderr.write('loading\\n' * 50000)"), limits=QUICK) as worker:
        for _ in range(3):
            np.testing.assert_array_equal(worker.call(CALL).value, X)


def test_a_command_that_answers_before_it_has_read_everything(command):
    early = """
def receive():
    header = json.loads(stdin.read(struct.unpack("<4sI", stdin.read(8))[1]))
    return header, []

def reply(header, data):
    size = math.prod(header["arrays"][0]["shape"]) * 4
    ok(header["arrays"], [bytes(size)])
    stdin.read(size)
"""
    large = np.ones((512, 1024), dtype=np.float32)
    with Worker(command(early), limits=Limits(seconds=5.0)) as worker:
        for _ in range(2):
            assert (worker.call(Call("softmax", (large,))).value == 0).all()


# --- what a command may do wrong ---


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", "the command was killed by SIGSEGV (segmentation"),
        ("os._exit(3)", "crash", "the command exited with status 3"),
        ("1 / 0", "crash", "status 1; it last wrote 'ZeroDivisionError: division by zero' to stderr"),
        ("os.close(1); time.sleep(60)", "crash", "the command closed its stdout"),
        ("time.sleep(60)", "hang", "no result within"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True: pass", "hang", "no result within"),
        ("print('x', flush=True); time.sleep(60)", "output", r"the command wrote b'x\n' to stdout, where a"),
        ("print('debugging', flush=True); ok(header['arrays'], data)", "output", "wrote b'debugging"),
        ("stdout.write(b'SCF1' + b'\\xff' * 64); stdout.flush()", "output", "does not start as a frame"),
        ("stdout.write(b'SCF1\\2\\0\\0\\0[]'); stdout.flush()", "output", "header cannot be read"),
        ("stdout.write(b'SCF1\\7\\0\\0\\0no json'); stdout.flush()", "output", "header cannot be read"),
        ("ok([{'dtype': 'object', 'shape': [1]}], [bytes(8)])", "output", "is no dtype of numbers"),
        ("ok([{'dtype': 'float32', 'shape': [-1]}], [])", "output", "[-1] is no shape"),
        ("ok([{'dtype': 'float32', 'shape': 3}], [])", "output", "3 is no shape"),
        ("ok([{'dtype': 'float99', 'shape': [1]}], [])", "output", "float99"),
        ("ok([{'dtype': 'float32', 'shape': [1 << 50]}], [])", "output", "far more than its input has"),
        ("ok([], [])", "output", "the command sent 0 arrays, not (softmax)"),
        ("ok(header['arrays'] * 2, data * 2)", "output", "the command sent 2 arrays, not (softmax)"),
        ("send({'arrays': []})", "exception", "replied with the status None"),
        ("send({'status': 'fine', 'arrays': []})", "exception", "replied with the status 'fine'"),
        ("hold = bytearray(1 << 30)", "memory", "memoryerror"),
    ],
)
def test_failures_are_replies_and_the_next_call_is_answered(command, body, kind, words):
    good = "if data[0][:4] != bytes(4): return ok(header['arrays'], data)"
    wrong = f"def reply(header, data):\n    {good}\n    {body}"
    with Worker(command(wrong), limits=QUICK) as worker:
        assert isinstance(worker.call(Call("softmax", (X + 1,))), Output)
        reply = worker.call(CALL)
        assert isinstance(reply, Failure)
        assert reply.kind == kind, reply
        assert words.lower() in reply.message.lower()
        assert isinstance(worker.call(Call("softmax", (X + 1,))), Output)


def test_odd_outputs_arrive_as_they_are(command):
    odd = "def reply(header, data): ok([{'dtype': 'float64', 'shape': [3]}], [bytes(24)])"
    with Worker(command(odd), limits=QUICK) as worker:
        reply = worker.call(CALL)
    assert (reply.value.dtype.name, reply.value.shape) == ("float64", (3,))


def test_children_of_a_command_do_not_stay(command):
    text = "import subprocess\nsubprocess.Popen([sys.executable, *sys.argv, 'child'], start_new_session=True)"
    child = "if 'child' in sys.argv: time.sleep(60)"
    with Worker(command(hello=f"{child}\n{text}"), limits=QUICK) as worker:
        assert isinstance(worker.call(CALL), Output)


# --- what cannot be talked to ---


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("command:", "the command is empty; give command:PROGRAM ARGUMENTS"),
        ("command: ", "the command is empty"),
        ("command:node 'kernel.js", "cannot be split into words: No closing quotation"),
        ("command:no-such-program x", "there is no program 'no-such-program' on PATH"),
        ("command:./no-such-program", "there is no program './no-such-program' there"),
        ("command:true", "command 'true' does not answer: the command exited with status 0"),
        ("command:false", "the command exited with status 1"),
        ("command:echo hello", r"the command wrote b'hello\\n' to stdout, where a frame begins with b'SCF1'"),
        ("command:cat", "has an unknown entry 'request'"),
    ],
)
def test_programs_that_are_no_commands(subject, words):
    with pytest.raises(SubjectError, match=words) as caught:
        load(subject)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        ("HELLO['protocol'] = 2", "speaks protocol 2, and this is protocol 1"),
        ("del HELLO['protocol']", "speaks protocol None"),
        ("del HELLO['ops']", "has no list of ops"),
        ("HELLO['ops'] = []", "is not a list of op names"),
        ("HELLO['ops'] = ['hardmax']", "names 'hardmax'; the ops are softmax"),
        ("HELLO['colour'] = 1", "unknown entry 'colour'; it can hold contract, dtypes"),
        ("HELLO['contract'] = {'exp_ulp': 0}", "exp_ulp has to be a positive number"),
        ("raise RuntimeError('no licence')", "last wrote 'RuntimeError: no licence' to stderr"),
    ],
)
def test_what_a_command_may_say_of_itself(command, hello, words):
    with Worker(command(hello=hello), limits=QUICK) as worker, pytest.raises(SubjectError, match=words):
        _ = worker.description


def test_a_command_that_never_greets(command):
    with (
        Worker(command(serve="time.sleep(60)"), limits=Limits(load_seconds=1.0)) as worker,
        pytest.raises(SubjectError, match="took longer than 1 s"),
    ):
        _ = worker.description


def test_one_op_of_a_command(command):
    several = command(hello=f"HELLO['ops'] = {list(OPS)!r}")
    assert set(load(several).ops) == set(OPS)
    assert set(load(several, "logsumexp").ops) == {"logsumexp"}


def test_a_loaded_command_is_served_by_forks_each_with_a_program_of_its_own(command):
    backend = load(command())
    with Worker(backend, limits=QUICK) as one, Worker(backend, limits=QUICK) as other:
        for worker in (one, other, one):
            np.testing.assert_array_equal(worker.call(CALL).value, X)
    np.testing.assert_array_equal(backend.ops["softmax"](X), X)


def test_a_program_of_this_folder_is_not_looked_for_on_path(command, tmp_path, monkeypatch):
    written = command().removeprefix(f"command:{sys.executable} ")
    program = tmp_path / "kernel"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{written}"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert load("command:./kernel").ops
