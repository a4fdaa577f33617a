"""What a kernel of attention refuses is not held against it; what it takes, and gets wrong, is."""

import numpy as np
import pytest

from softcert import check
from softcert.backends import Backend, Call, Failure, Worker, load
from softcert.backends.ops import ATTENTION_OPTIONS
from softcert.conformance.inputs.features import lacking

PLAIN = load("numpy-standard").ops["attention"]
WIDE = ("heads wider than 64", "heads wider than 128", "heads wider than 256")


def up_to(most, refused):
    """A kernel that does something else with heads wider than `most`."""

    def attention(q, k, v, *, scale=None, causal=False, mask=None):
        out = PLAIN(q, k, v, scale=scale, causal=causal, mask=mask)
        return out if max(q.shape[-1], v.shape[-1]) <= most[q.dtype.name] else refused(out)

    return attention


def no(_out):
    raise ValueError("heads are too wide")


def wide_heads(attention, dtypes=("float32",)):
    run = check(Backend("mine", {"attention": attention}, dtypes=dtypes), clauses="attention.features")
    return {verdict.dtype: verdict for verdict in run.verdicts}


def test_wide_heads_that_are_refused_are_not_asked_for_and_the_verdict_says_so():
    most = {"float16": 256, "float32": 64}
    verdicts = wide_heads(up_to(most, no), ("float16", "float32"))
    assert {verdict.status for verdict in verdicts.values()} == {"pass"}
    assert [name for name in WIDE if name in verdicts["float32"].message] == [WIDE[0]]
    assert [name for name in WIDE if name in verdicts["float16"].message] == [WIDE[2]]
    assert verdicts["float32"].cases < verdicts["float16"].cases


@pytest.mark.parametrize(("most", "refused"), [(64, lambda out: 1.01 * out), (80, None)])
def test_wide_heads_that_are_taken_are_judged(most, refused):
    """Also where some are refused, between those of whole tiles that are not."""

    def odd(q, k, v, **options):
        if q.shape[-1] > most and q.shape[-1] % 32:
            no(None)
        return PLAIN(q, k, v, **options)

    def attention(q, k, v, *, scale=None, causal=False, mask=None):
        kernel = odd if refused is None else up_to({"float32": most}, lambda o: refused(o).astype(o.dtype))
        return kernel(q, k, v, scale=scale, causal=causal, mask=mask)

    assert wide_heads(attention)["float32"].status != "pass"


@pytest.mark.parametrize("op", ["attention", "attention_lse"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_kernel_that_takes_everything_lacks_nothing(op, dtype):
    with Worker("numpy-standard", op=None) as worker:
        assert lacking(op, dtype, ATTENTION_OPTIONS, worker.call, thorough=1) == {}


def test_more_batches_than_a_grid_has_room_for_are_asked_for_in_thorough_profiles_alone():
    asked = []

    def ask(call: Call):
        asked.append(call.operands[0].shape)
        if np.prod(asked[-1][:-3]) > 65535:
            return Failure("exception", "RuntimeError: invalid argument", by_subject=True)
        return object()

    assert lacking("attention", "float32", ATTENTION_OPTIONS, ask, thorough=0.5) == {}
    assert max(map(np.prod, asked)) < 65535
    assert list(lacking("attention", "float32", ATTENTION_OPTIONS, ask, thorough=1)) == [
        "more than 65535 batches"
    ]
