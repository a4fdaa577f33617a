"""Whatever a subject does in a call, of softmax and of attention, is told, and touches no other call."""

import os
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from softcert.backends import Call, Failure, Limits, Output, Worker, load
from softcert.backends.harmless import attention_operands

ACTS = tomllib.loads((Path(__file__).parent / "hostile.toml").read_text())["act"]
#: What a subject leaves to happen after a call has happened by then.
LATER = 0.15
LATE_EFFECTS = ("earlier-output-changed",)
OPS = ("softmax", "attention", "attention_lse", "attention_vjp")
LOGITS = np.array([[0.0, 1.0, 2.0, -1.0], [3.0, 0.5, -2.0, 1.0]])


def limits(act):
    """Limits that a busy machine does not reach, but for what is to reach them."""
    return Limits(0.3 if act.get("kind") == "hang" else 10.0, load_seconds=30.0, memory_bytes=1 << 28)


def calls(dtype):
    """A small call of each op."""
    yield Call("softmax", (LOGITS.astype(dtype),))
    for op in OPS[1:]:
        yield Call(op, attention_operands(op, dtype), {})


@pytest.fixture(scope="module")
def sound():
    """What the subject answers that does nothing else, by op and dtype."""
    with Worker(str(Path(__file__).parent / "hostile_subject.py")) as one:
        return {(call.op, dtype): one.call(call) for dtype in ("float64", "float32") for call in calls(dtype)}


def assert_sound(reply, expected, effects=()):
    assert isinstance(reply, Output), reply
    assert reply.side_effects == effects
    assert reply.distinct is None
    assert len(reply.values) == len(expected.values)
    for value, other in zip(reply.values, expected.values, strict=True):
        assert value.dtype == other.dtype
        np.testing.assert_array_equal(value, other)


def assert_as_told(act, reply, expected):
    """The reply to a hostile call is what the table says."""
    if "kind" in act:
        assert isinstance(reply, Failure), reply
        assert reply.kind == act["kind"], reply
        assert re.search(act["words"], reply.message), reply.message
        assert reply.by_subject
        assert len(reply.message) < 400
        assert reply.message.isprintable()
        return
    assert isinstance(reply, Output), reply
    effects = (act["effect"],) if "effect" in act else ()
    assert reply.side_effects == effects
    result = act.get("result", "sound")
    if result == "sound":
        assert_sound(reply, expected, effects)
    elif result == "nan":
        assert [v.shape for v in reply.values] == [v.shape for v in expected.values]
        assert all(np.isnan(value).all() for value in reply.values)
    elif result == "other":
        assert any(
            v.shape != e.shape or v.dtype != e.dtype or not np.array_equal(v, e)
            for v, e in zip(reply.values, expected.values, strict=True)
        )
    else:
        assert {f"{value.dtype} {value.shape}" for value in reply.values} == {result}


def few_ops(act):
    """The ops that an act is tried on first: two, where each costs a process."""
    if act.get("kind") not in {"crash", "hang", "memory"}:
        return OPS
    return OPS[0], OPS[1 + ACTS.index(act) % 3]


def examine(act, one, sound, ops=OPS):
    loaded = (act["effect"],) if act.get("on_loading") else ()
    for honest, hostile in zip(calls("float64"), calls("float32"), strict=True):
        if honest.op not in ops:
            continue
        undisturbed = sound[honest.op, "float64"]
        assert_sound(one.call(honest), undisturbed, loaded)
        reply = one.call(hostile)
        if act.get("effect") in LATE_EFFECTS:
            time.sleep(LATER)
            reply = one.call(hostile)
        assert_as_told(act, reply, sound[honest.op, "float32"])
        if "later" in act or act.get("effect") in LATE_EFFECTS:
            time.sleep(LATER)
            reply = one.call(honest)
            if "later" in act:
                assert isinstance(reply, Failure), reply
                assert re.search(act["later"] + " .* between two calls", reply.message), reply.message
        assert_sound(one.call(honest), undisturbed, loaded)


def skip_without_compiler(act, zoo):
    if "FAST_MATH" in act["act"] + act.get("top", "") and not zoo.fast_math:
        pytest.skip("no C compiler for this processor")


@pytest.mark.parametrize("act", [pytest.param(act, id=act["name"]) for act in ACTS])
def test_an_act_is_told_and_touches_no_other_call(act, zoo, sound):
    skip_without_compiler(act, zoo)
    subject = zoo.subject(act["act"], act.get("top", ""))
    # What loading does to a process must not be done to this one.
    with Worker(subject if act.get("on_loading") else load(subject), limits=limits(act)) as one:
        examine(act, one, sound, few_ops(act))


@pytest.mark.slow
@pytest.mark.parametrize("act", [pytest.param(act, id=act["name"]) for act in ACTS])
def test_an_act_in_an_interpreter_of_its_own_too(act, zoo, sound):
    skip_without_compiler(act, zoo)
    with Worker(zoo.subject(act["act"], act.get("top", "")), limits=limits(act)) as one:
        examine(act, one, sound)


def test_what_a_subject_started_ends_with_a_judge_that_is_killed(zoo):
    path = zoo.subject("detached()\ndaemon()\nreturn honest()")
    judge = (
        "import numpy as np, time\nfrom softcert.backends import *\n"
        f"one = Worker({path!r})\n"
        "print(type(one.call(Call('softmax', (np.zeros((2, 4), np.float32),)))).__name__, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", judge], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "Output\n"
        process.kill()


def test_a_forked_subject_does_not_reach_the_files_of_the_judge(zoo):
    reading, writing = os.pipe()
    act = "for n in range(3, 1024):\n    try: os.set_blocking(n, False); os.write(n, b'x')\n"
    act += "    except OSError: pass\ntime.sleep(60)"
    # loaded here already: the first call's longer patience need not last
    with Worker(load(zoo.subject(act)), limits=replace(limits({"kind": "hang"}), load_seconds=3.0)) as one:
        hostile = next(calls("float32"))
        assert isinstance(one.call(hostile), Failure)
    os.close(writing)
    assert os.get_blocking(reading)
    assert os.read(reading, 1) == b""
    os.close(reading)
