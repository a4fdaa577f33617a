"""Every clause of attention lets a plain kernel pass, and breaks the one that has its fault."""

from dataclasses import replace

import numpy as np
import pytest

import softcert
from softcert.backends import Backend, Contract
from softcert.backends.ops import ATTENTION_OPS
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.examination.replay import replay
from softcert.conformance.model import RequestError
from softcert.conformance.wire.runs import witness_from_json, witness_to_json

OF_ATTENTION = {c.id: c for c in CLAUSES if set(c.ops) <= set(ATTENTION_OPS)}


def accumulated(array):
    return np.float64 if array.dtype == np.float64 else np.float32


def shared(array, q):
    """k or v, repeated for the heads of q that share them."""
    return np.repeat(array, q.shape[-3] // array.shape[-3], axis=-3) if q.ndim > 2 else array


def scores(q, k, scale, causal, mask, sentinel=-np.inf, **fault):
    t = accumulated(q)
    factor = t(fault.get("scale", 1.0) * (1.0 / np.sqrt(q.shape[-1]) if scale is None else scale))
    if fault.get("fixed_scale"):
        factor = t(1.0 / np.sqrt(q.shape[-1]))
    keep = fault.get("features", q.shape[-1])
    s = (
        q[..., :keep].astype(t) @ np.swapaxes(fault.get("shared", shared)(k, q)[..., :keep].astype(t), -1, -2)
    ) * factor
    queries, keys = s.shape[-2:]
    if mask is not None and not fault.get("unmasked"):
        s = (
            np.where(mask, s, t(sentinel))
            if mask.dtype == bool
            else s + np.maximum(mask.astype(t), t(sentinel))
        )
    if causal:
        offset = 0 if fault.get("top_left") else keys - queries
        s = np.where(np.arange(keys) <= np.arange(queries)[:, None] + offset, s, t(sentinel))
    return s


def forward(q, k, v, *, scale=None, causal=False, mask=None, **fault):
    with np.errstate(all="ignore"):
        s = scores(q, k, scale, causal, mask, **fault)
        if "change" in fault:
            s = fault["change"](s)
        top = s.max(axis=-1, keepdims=True, initial=-np.inf)
        top = np.where(np.isneginf(top), 0.0, top) if not fault.get("no_maximum") else np.zeros_like(top)
        p = np.exp(s - top.astype(s.dtype))
        if "weights" in fault:
            p = fault["weights"](p)
        total = p.sum(axis=-1, keepdims=True)
        if "padding" in fault:
            total = total + s.dtype.type(fault["padding"]) * np.exp(-top.astype(s.dtype))
        safe = np.where((total == 0) & (not fault.get("nan_rows")), 1.0, total).astype(s.dtype)
        out = (p @ fault.get("shared", shared)(v, q).astype(s.dtype)) / safe
        lse = np.where(total == 0, -np.inf, np.log(safe) + top).astype(s.dtype)[..., 0]
    return out.astype(q.dtype), lse


def backward(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None, **fault):
    with np.errstate(all="ignore"):
        t = accumulated(q)
        s = scores(q, k, scale, causal, mask, **fault)
        factor = t(1.0 / np.sqrt(q.shape[-1]) if scale is None else scale)
        p = np.exp(s - lse[..., np.newaxis].astype(t))
        p = p if fault.get("nan_rows") else np.where(np.isneginf(s), t(0), p)
        if fault.get("normalized"):
            p = p / p.sum(axis=-1, keepdims=True)
        dp = dout.astype(t) @ np.swapaxes(shared(v, q).astype(t), -1, -2)
        ds = p * (
            dp - (dout.astype(t) * out.astype(t)).sum(axis=-1, keepdims=True) * t(fault.get("delta", 1.0))
        )
        if fault.get("padded_key"):
            ds = ds + t(0.0) * np.exp(-lse[..., np.newaxis].astype(t))
        ds = ds * factor * t(fault.get("slope", 1.0))
        dq, dk = ds @ shared(k, q).astype(t), np.swapaxes(ds, -1, -2) @ q.astype(t)
        dv = np.swapaxes(p, -1, -2) @ dout.astype(t)
        if q.ndim > 2 and q.shape[-3] != k.shape[-3]:
            parts = (*k.shape[:-2], q.shape[-3] // k.shape[-3])
            combine = fault.get("combine", lambda a: a.sum(axis=-3))
            dk, dv = (combine(a.reshape(*parts, *a.shape[-2:])) for a in (dk, dv))
        if fault.get("keep"):
            dk[..., fault["keep"] :, :] = 0.0
    return tuple(a.astype(q.dtype) for a in (dq, dk, dv))


def merge(out_a, lse_a, out_b, lse_b, *, careless=False):
    with np.errstate(all="ignore"):
        top = np.maximum(lse_a, lse_b)
        top = top if careless else np.where(np.isneginf(top), 0.0, top).astype(lse_a.dtype)
        of_a, of_b = np.exp(lse_a - top), np.exp(lse_b - top)
        total = of_a + of_b
        safe = np.where((total == 0) & (not careless), 1.0, total)
        out = (
            of_a[..., None] * out_a.astype(lse_a.dtype) + of_b[..., None] * out_b.astype(lse_a.dtype)
        ) / safe[..., None]
        return out.astype(out_a.dtype), np.where(total == 0, -np.inf, np.log(safe) + top).astype(lse_a.dtype)


GOOD = {
    "attention": lambda *a, **o: forward(*a, **o)[0],
    "attention_lse": forward,
    "attention_vjp": backward,
    "attention_merge": merge,
}


def with_fault(op, **fault):
    return lambda *operands, **options: GOOD[op](*operands, **options, **fault)


def checked(clause, op, kernel, **contract):
    backend = Backend("kernel", {**GOOD, op: kernel}, ("float32",), Contract(**contract))
    run = softcert.check(backend, ops=[op], dtypes=["float32"], clauses=[clause], profile="smoke")
    (verdict,) = run.verdicts
    return verdict


def in_turn(array, q):
    return array[..., np.arange(q.shape[-3]) % array.shape[-3], :, :] if q.ndim > 2 else array


def stale(k, places):
    """Adds what hidden keys hold to nothing, which is something if they hold no numbers."""
    return 0.0 * k[..., places, :].sum()


def leaky(q, k, v, **options):
    out = forward(q, k, v, **options)[0]
    return (
        (out + 0.0 * v.sum(axis=-2, keepdims=True)).astype(q.dtype)
        if q.ndim > 2 and len(v) == len(q)
        else out
    )


def shifted_rows(s):
    """The first query of each sequence sees the last key of the one before it."""
    return np.where(np.isneginf(s) & ~np.isneginf(np.roll(s, 1, axis=-1)), 0.0, s).astype(s.dtype)


def all_of_it(q, k, v, **options):
    np.ones((64, q.shape[-2], k.shape[-2]), dtype=np.float32).sum()
    return forward(q, k, v, **options)[0]


def quietly_nan(q, k, v, **options):
    return np.nan_to_num(forward(q, k, v, **options)[0])


def short(op, result):
    """One result is always a little too small: beyond what exp may lean by, within every bound."""

    def kernel(*operands, **options):
        results = list(GOOD[op](*operands, **options))
        results[result] = results[result] * results[result].dtype.type(1.0 - 2.0**-17)
        return tuple(results)

    return kernel


#: For each clause an op, a kernel that breaks it, and what it promises.
MUTANTS = {
    "attention.definition": (
        "attention",
        with_fault("attention", weights=lambda p: p.astype(np.float16).astype(p.dtype)),
        {},
    ),
    "attention.lengths": ("attention", with_fault("attention", padding=1.0), {}),
    "attention.features": ("attention", with_fault("attention", features=64), {}),
    "attention.causal": ("attention", with_fault("attention", top_left=True), {}),
    "attention.mask": ("attention", with_fault("attention", unmasked=True), {}),
    "attention.hidden-keys": ("attention", with_fault("attention", unmasked=True), {}),
    "attention.hidden-nan": ("attention", leaky, {"masked_nan": "ignored"}),
    "attention.empty-rows": ("attention", with_fault("attention", nan_rows=True), {}),
    "attention.translation": ("attention", with_fault("attention", no_maximum=True), {}),
    "attention.values": ("attention", with_fault("attention", padding=1e-3), {}),
    "attention.order": (
        "attention",
        with_fault(
            "attention", change=lambda s: s + s.dtype.type(1e-3) * np.arange(s.shape[-1], dtype=s.dtype)
        ),
        {},
    ),
    "attention.heads": ("attention", with_fault("attention", shared=in_turn), {}),
    "attention.packed": ("attention", with_fault("attention", change=shifted_rows), {}),
    "attention.scale": ("attention", with_fault("attention", fixed_scale=True), {}),
    "attention.limit": (
        "attention",
        with_fault("attention", weights=lambda p: np.maximum(p, p.dtype.type(1e-4))),
        {},
    ),
    "attention.merge": ("attention_merge", with_fault("attention_merge", careless=True), {}),
    "attention-gradient.definition": ("attention_vjp", with_fault("attention_vjp", delta=0.0), {}),
    "attention-gradient.lengths": ("attention_vjp", with_fault("attention_vjp", padded_key=True), {}),
    "attention-gradient.features": ("attention_vjp", with_fault("attention_vjp", features=64), {}),
    "attention-gradient.causal": ("attention_vjp", with_fault("attention_vjp", top_left=True), {}),
    "attention-gradient.mask": ("attention_vjp", with_fault("attention_vjp", unmasked=True), {}),
    "attention-gradient.hidden-keys": ("attention_vjp", with_fault("attention_vjp", unmasked=True), {}),
    "attention-gradient.empty-rows": ("attention_vjp", with_fault("attention_vjp", nan_rows=True), {}),
    "attention-gradient.translation": ("attention_vjp", with_fault("attention_vjp", padded_key=True), {}),
    "attention-gradient.values": ("attention_vjp", with_fault("attention_vjp", delta=1.001), {}),
    "attention-gradient.order": ("attention_vjp", with_fault("attention_vjp", keep=16), {}),
    "attention-gradient.heads": (
        "attention_vjp",
        with_fault("attention_vjp", combine=lambda a: a[..., -1, :, :]),
        {},
    ),
    "attention-gradient.packed": ("attention_vjp", with_fault("attention_vjp", unmasked=True), {}),
    "attention-gradient.scale": ("attention_vjp", with_fault("attention_vjp", slope=1.01), {}),
    "attention-gradient.rematerialization": (
        "attention_vjp",
        with_fault("attention_vjp", normalized=True),
        {},
    ),
    "bias.attention": ("attention_lse", short("attention_lse", 0), {}),
    "bias.attention-gradient": ("attention_vjp", short("attention_vjp", 2), {}),
    "memory.growth": ("attention", all_of_it, {"memory": "linear"}),
    "stability.attention-nan": ("attention", quietly_nan, {}),
    "stability.attention-magnitudes": ("attention", with_fault("attention", padding=1e-3), {}),
}
#: Clauses that only observe, and those whose good kernel would have to be another.
UNTRIED = {"stability.attention-empty", "stability.attention-no-keys"}


def test_every_clause_of_attention_owns_a_mutant():
    assert set(MUTANTS) | UNTRIED == set(OF_ATTENTION)


@pytest.mark.parametrize("clause", MUTANTS)
def test_a_clause_catches_its_mutant_and_its_witness_can_be_replayed(clause):
    op, kernel, promised = MUTANTS[clause]
    verdict = checked(clause, op, kernel, **promised)
    assert verdict.status in {"fail", "error"}, verdict.message
    assert verdict.witness is not None
    assert verdict.message == verdict.witness.finding.message
    backends = [Backend("again", {op: k}, ("float32",), Contract(**promised)) for k in (kernel, GOOD[op])]
    same, right = (replay(verdict.witness, backend) for backend in backends)
    assert same.status == verdict.status
    # The plain kernel promises neither of these.
    if clause not in {"attention.hidden-nan", "memory.growth"}:
        assert right.status == "pass", right.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: replace(c, params={"axis": -1}), "'axis'"),
        (lambda c: replace(c, params={"scale": float("inf")}), "scale"),
        (lambda c: replace(c, params={"causal": 1.0}), "causal"),
        (lambda c: replace(c, operands=c.operands[:2]), "2 operands"),
        (
            lambda c: replace(c, operands=(c.operands[0], c.operands[1], c.operands[2][..., :0, :])),
            "fit together",
        ),
        (lambda c: replace(c, operands=tuple(a.astype(np.float64) for a in c.operands)), "float64"),
        (lambda c: replace(c, mask=np.ones((7, 7), dtype=bool)), "broadcast"),
        (lambda c: replace(c, mask=np.ones((1, 1), dtype=np.int8)), "int8"),
    ],
)
def test_a_witness_of_a_call_that_attention_never_gets_is_refused(change, words):
    op, kernel, _ = MUTANTS["attention.scale"]
    witness = checked("attention.scale", op, kernel).witness
    trial = replace(witness.trial, calls=(change(witness.trial.calls[0]),))
    with pytest.raises(RequestError, match=words):
        replay(replace(witness, trial=trial), Backend("kernel", {op: kernel}, ("float32",)))


@pytest.mark.slow
@pytest.mark.parametrize("clause", [c for c in OF_ATTENTION if c != "memory.growth"])
def test_a_plain_kernel_passes_every_clause(clause):
    op = OF_ATTENTION[clause].ops[-1]
    promised = {"masked_nan": "any"}
    verdict = checked(clause, op, GOOD[op], **promised)
    assert verdict.status == ("skip" if clause == "attention.hidden-nan" else "pass"), verdict.message
    assert verdict.margin <= 1.0
    assert not verdict.controls or "caught" in verdict.controls.values()


@pytest.mark.parametrize("op", ATTENTION_OPS)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_a_plain_kernel_keeps_its_bound_in_every_format(op, dtype):
    backend = Backend("kernel", {op: GOOD[op]}, (dtype,))
    group = (
        "attention-gradient.heads"
        if op == "attention_vjp"
        else "attention.merge"
        if "merge" in op
        else "attention.values"
    )
    run = softcert.check(backend, ops=[op], clauses=[group, "purity"], profile="smoke")
    assert run.conforms, [v.message for v in run.broken]


def test_a_witness_of_attention_survives_its_file_with_mask_and_results():
    op, kernel, _ = MUTANTS["attention.mask"]
    witness = checked("attention.mask", op, kernel).witness
    again = witness_from_json(witness_to_json(witness))
    for call, other in zip(witness.trial.calls, again.trial.calls, strict=True):
        for a, b in zip(call.arrays, other.arrays, strict=True):
            np.testing.assert_array_equal(a, b)
        assert dict(call.params) == dict(other.params)
    assert again.finding == witness.finding


def test_a_witness_is_smaller_than_the_case_that_showed_it():
    op, kernel, _ = MUTANTS["attention-gradient.definition"]
    call = checked("attention-gradient.definition", op, kernel).witness.trial.calls[0]
    assert max(a.size for a in call.operands) <= 4


def test_what_a_subject_refuses_is_named_and_not_asked():
    def unmasked(q, k, v, *, scale=None, causal=False):
        return forward(q, k, v, scale=scale, causal=causal)[0]

    run = softcert.check(
        unmasked, op="attention", dtypes=["float32"], clauses=["attention.mask"], profile="smoke"
    )
    (verdict,) = run.verdicts
    assert verdict.status == "skip"
    assert "takes no mask" in verdict.message


def test_groups_of_heads_are_not_asked_of_who_only_broadcasts():
    def broadcasting(q, k, v, **options):
        shape = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
        k, v = (np.broadcast_to(a, (*shape, *a.shape[-2:])) for a in (k, v))
        return forward(q, k, v, **options)[0]

    run = softcert.check(
        broadcasting, op="attention", dtypes=["float32"], clauses=["attention.heads"], profile="smoke"
    )
    (verdict,) = run.verdicts
    assert verdict.status == "pass"
    grouped = checked("attention.heads", "attention", lambda *a, **o: forward(*a, **o)[0])
    assert grouped.status == "pass"
    assert 0 < verdict.cases < grouped.cases


def test_a_subject_that_takes_one_width_alone_is_examined_all_the_same():
    def alike(q, k, v, **options):
        if v.shape[-1] != k.shape[-1]:
            raise ValueError("keys and values have to be alike")
        return forward(q, k, v, **options)[0]

    clauses = [f"attention.{name}" for name in ("features", "hidden-keys", "packed", "scale", "translation")]
    run = softcert.check(alike, op="attention", dtypes=["float32"], clauses=clauses, profile="smoke")
    assert {verdict.status for verdict in run.verdicts} == {"pass"}
    whole = softcert.check(
        lambda *operands, **options: forward(*operands, **options)[0],
        op="attention",
        dtypes=["float32"],
        clauses=clauses,
        profile="smoke",
    )
    cases = [{v.clause: v.cases for v in r.verdicts} for r in (run, whole)]
    assert cases[0].pop("attention.features") < cases[1].pop("attention.features")
    assert cases[0] == cases[1]


def test_a_gradient_that_makes_the_forward_pass_anew_is_told_from_one_that_is_wrong():
    op, kernel, _ = MUTANTS["attention-gradient.rematerialization"]
    assert checked("attention-gradient.definition", op, kernel).status == "pass"
    promised = checked("attention-gradient.rematerialization", op, kernel, rematerialized=False)
    assert promised.status == "skip"


def test_policies_of_empty_rows_are_judged_as_declared():
    def mean_of_values(q, k, v, **options):
        return with_fault("attention", sentinel=-1e9)(q, k, v, **options)

    assert checked("attention.empty-rows", "attention", mean_of_values).status == "fail"
    assert checked("attention.empty-rows", "attention", GOOD["attention"], masked_row="nan").status == "fail"
