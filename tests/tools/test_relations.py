"""The independent checker on findings that relate replies: real ones are true, tampered copies WRONG."""

import copy
import importlib
import math
import sys
from pathlib import Path

import pytest

from softcert.backends.contract import Contract
from softcert.conformance import check
from softcert.conformance.wire.runs import witness_to_json

ROOT = Path(__file__).resolve().parents[2]
BROKEN = ROOT / "tests" / "defects" / "broken"


@pytest.fixture(scope="module")
def program():
    """The checker, imported as the folder of the program makes it importable."""
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("verify_witness")
    sys.path.remove(str(ROOT / "tools"))


def line_of(program, witness):
    """What the program says of a witness."""
    try:
        return f"true: {program.check_witness(witness)}"
    except program.FalseError as complaint:
        return f"WRONG: {complaint}"
    except program.UnknownError as reason:
        return f"not recomputed: {reason}"


def changed(document, *path, value):
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


# subject, op, clause: what a real finding of it is said to be
REAL = {
    "ratio": ("order.py:sorted_and_left_sorted", "softmax", "luce.ratio", "the ratio is"),
    "order": ("order.py:sorted_and_left_sorted", "softmax", "order.monotone", "while"),
    "range": ("order.py:ties_change_sign", "softmax", "simplex.range", "outside the range"),
    "nan": ("shifting.py:no_shift", "softmax", "simplex.range", "nan where the exact value is"),
    "symmetric": ("gradients.py:vjp_wrong_axis", "softmax_vjp", "jacobian.symmetric", "differ"),
    "definite": (
        "gradients.py:vjp_negated",
        "softmax_vjp",
        "jacobian.positive-semidefinite",
        "quadratic form",
    ),
    "mean": ("rounding.py:truncated", "softmax", "bias.repeated-maximum", "mean signed error over 250"),
    "repeat": ("rounding.py:stochastic", "softmax", "determinism.repeat", "repetitions"),
    "state": ("rounding.py:stochastic", "softmax", "purity.stateless", "the same"),
    "effects": ("side_effects.py:shifts_in_place", "softmax", "purity.side-effects", "input-modified"),
    "tropical": ("logarithms.py:lse_of_floored_weights", "logsumexp", "limits.tropical", "lies outside"),
    "distance": (
        "accumulation.py:sum_of_floored_weights",
        "softmax",
        "limits.argmax",
        "distance from arg max",
    ),
    "draws": ("scaling.py:beta_as_temperature", "softmax", "sampling.actions", "are expected"),
    "mean of a row": (
        "rounding.py:weights_lean_with_the_length",
        "softmax",
        "limits.expectation",
        "mean below the maximum is",
    ),
    "variance": (
        "rounding.py:weights_lean_with_the_length",
        "softmax",
        "boltzmann.heat-capacity",
        "variance of the logits is",
    ),
    "shape": ("axes.py:widened", "softmax", "purity.shape-dtype", "where the op gives"),
    "special": ("order.py:uniform", "softmax", "stability.nan", "where the rules ask for NaN"),
}


@pytest.fixture(scope="module")
def real():
    """One witness of a real run for each entry of the table."""
    made = {}
    for name, (spec, op, clause, _) in REAL.items():
        dtype = "float32" if name == "shape" else "float64"
        contract = Contract(form="division" if "floored" in spec or "lean" in spec else "any")
        run = check(
            f"{BROKEN}/{spec}", op=op, dtypes=[dtype], clauses=[clause], profile="smoke", contract=contract
        )
        (verdict,) = run.verdicts
        assert verdict.witness is not None, f"{name}: {verdict.status}"
        made[name] = witness_to_json(verdict.witness)
    return made


@pytest.mark.parametrize("name", REAL)
def test_real_findings_are_true(program, real, name):
    line = line_of(program, real[name])
    assert line.startswith("true: "), line
    assert REAL[name][3] in line


def answering(witness, *numbers):
    """The witness with another reply to the call of its finding, and the observed value that goes with it."""
    call, index = witness["finding"]["call"], witness["finding"]["index"]
    reply = witness["replies"][call]
    values = (list(numbers) * len(reply["hex"]))[: len(reply["hex"])]
    witness = changed(witness, "replies", call, "hex", value=[float(v).hex() for v in values])
    place = 0
    for k, n in zip(index, reply["shape"], strict=True):
        place = place * n + k
    return changed(witness, "finding", "observed", value=float(values[place]).hex())


def stating(**facts):
    def tamper(witness):
        return {**witness, "finding": {**witness["finding"], **facts}}

    return tamper


def _error_doubled(witness):
    return stating(error_ulp=[2 * float(e) for e in witness["finding"]["error_ulp"]])(witness)


def _repeats_alike(witness):
    reply = witness["replies"][0]
    same = {key: reply[key] for key in ("dtype", "shape", "hex")}
    place = witness["finding"]["index"][-1]
    number = float.fromhex(reply["hex"][place]).hex()
    return stating(observed=f"{number} | {number}")(changed(witness, "replies", 0, "distinct", value=same))


def _calls_alike(witness):
    return changed(witness, "replies", -1, value=witness["replies"][0]) | {
        "finding": witness["finding"]
        | {"observed": witness["replies"][0]["hex"][witness["finding"]["index"][-1]]}
    }


def _first_call_another(witness):
    hexes = ["0x1.0p-3"] * len(witness["trial"]["calls"][0]["operands"][0]["hex"])
    return changed(witness, "trial", "calls", 0, "operands", 0, "hex", value=hexes)


def _without_effects(witness):
    return changed(witness, "replies", witness["finding"]["call"], "side_effects", value=[])


def _right_dtype(witness):
    shape = tuple(witness["replies"][0]["shape"])
    return stating(observed=f"float32 {shape}")(
        changed(witness, "replies", 0, "dtype", value="float32"),
    )


TAMPERED = {
    "ratio, enclosure": ("ratio", stating(exact=["1.5", "1.6"]), "enclosure"),
    "ratio, error": ("ratio", _error_doubled, "outside the interval"),
    "ratio, bound": ("ratio", stating(bound_ulp=1e300), "does not exceed"),
    "ratio, observed": ("ratio", stating(observed="0x1p-1 / 0x1p-1"), "observed"),
    "order, no fall": ("order", lambda w: answering(w, 0.25), "no logit"),
    "order, observed": ("order", stating(observed="0x1p-9"), "observed"),
    "order, other element": ("order", stating(index=[1]), "observed"),
    "range": ("range", lambda w: answering(w, 0.5), "in the range"),
    "nan": ("nan", lambda w: answering(w, 0.5), "in the range"),
    "symmetric": ("symmetric", lambda w: answering(w, 0.0), "are the same"),
    "definite": ("definite", lambda w: answering(w, 0.0), "not negative"),
    "definite, not asked": (
        "definite",
        lambda w: changed(w, "trial", "calls", 0, "operands", 1, "hex", 0, value="0x1p1"),
        "does not ask",
    ),
    "mean": ("mean", stating(observed="-0.100000 ulp"), "the mean is stated"),
    "mean, other sign": ("mean", lambda w: stating(observed=w["finding"]["observed"][1:])(w), "stated"),
    "mean, error": ("mean", _error_doubled, "outside the interval"),
    "mean, bound": ("mean", stating(bound_ulp=0.2), "chance allows"),
    "mean, rows": (
        "mean",
        lambda w: stating(quantity=w["finding"]["quantity"].replace("250", "251"))(w),
        "250 rows",
    ),
    "repeat, alike": ("repeat", _repeats_alike, "bit for bit"),
    "repeat, observed": ("repeat", stating(observed="0x1p-1 | 0x1p-2"), "observed"),
    "state, alike": ("state", _calls_alike, "bit for bit"),
    "state, other call": ("state", _first_call_another, "not the first"),
    "effects": ("effects", _without_effects, "does not record"),
    "shape": ("shape", _right_dtype, "as it must be"),
    "shape, observed": ("shape", stating(observed="float16 (1,)"), "observed"),
    "special": ("special", lambda w: answering(w, float("nan")), "the right value"),
    "special, rule": ("special", stating(message="where it must give 0"), "no contract asks"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_findings_are_named(program, real, name):
    base, tamper, complaint = TAMPERED[name]
    line = line_of(program, tamper(real[base]))
    assert line.startswith("WRONG: "), line
    assert complaint in line


def call(op, *operands, shape=None, **params):
    return {"op": op, "params": {"axis": -1, **params}, "operands": [tensor(v, shape) for v in operands]}


def tensor(values, shape=None):
    shape = [len(values)] if shape is None else shape
    return {"dtype": "float64", "shape": shape, "hex": [float(v).hex() for v in values]}


def made(clause, calls, replies, **finding):
    """A witness by hand, of a finding that no kernel of the tests gives."""
    blank = {"call": 0, "index": None, "exact": None, "error_ulp": None, "bound_ulp": None, "message": ""}
    relation = {"place": 1, "step": 0.5}
    trial = {"calls": calls, "relation": relation, "family": ""}
    return {"clause": clause, "trial": trial, "replies": replies, "finding": blank | finding}


def _pairing(second):
    return made(
        "jacobian.adjoint",
        [call("softmax_vjp", [0.5, 0.5], [1, 3]), call("softmax_jvp", [0.5, 0.5], [3, 1])],
        [tensor([-0.5, 0.5]), tensor(second)],
        quantity="<vjp(dy), dx> - <dy, jvp(dx)>",
        observed=repr(-1.0 - (second[0] + 3 * second[1])),
    )


def _slope(second):
    return made(
        "jacobian.lse-gradient",
        [call("logsumexp", [0, 0]), call("logsumexp", [0, 0.5])],
        [tensor([0.75], []), tensor([second], [])],
        call=1,
        index=[],
        quantity="logsumexp(x)[]",
        observed=f"{second.hex()} - {(0.75).hex()}",
    )


def _row_sum(y, last):
    return made(
        "jacobian.rows-sum-to-zero",
        [call("softmax_vjp", [y, y, y, y], [1, 0, 0, 1], shape=[2, 2])],
        [tensor([0.25, -0.25, last, 0.25], [2, 2])],
        index=[1, 0],
        quantity="softmax_vjp(y, dy)[1, 0]",
        observed=last.hex(),
    )


def _batch(alone, axis=-1):
    return made(
        "determinism.batch-invariance",
        [
            call("softmax", [0, 0, 1, 1], shape=[2, 2], axis=axis),
            call("softmax", [0, 0], shape=[1, 2]),
            call("softmax", [1, 1], shape=[1, 2]),
        ],
        [tensor([0.5] * 4, [2, 2]), tensor([0.5] * 2, [1, 2]), tensor([0.5, alone], [1, 2])],
        call=2,
        index=[0, 1],
        quantity="softmax(x)[0, 1]",
        observed=alone.hex(),
    )


def _element(clause, op, row, value, shape=None):
    return made(
        clause,
        [call(op, row)],
        [tensor([value] * (1 if shape == [] else len(row)), shape)],
        index=[] if shape == [] else [0],
        quantity=f"{op}(x){[] if shape == [] else [0]}",
        observed=float(value).hex(),
    )


def _moved(clause, quantity, row, reply, observed):
    return made(
        clause,
        [call("softmax", row)],
        [tensor(reply)],
        index=[0],
        quantity=quantity,
        observed=float(observed).hex(),
    )


def _free_energy(log_z):
    return made(
        "boltzmann.free-energy",
        [call("softmax", [0, 0]), call("logsumexp", [0, 0])],
        [tensor([0.5, 0.5]), tensor([log_z], [])],
        index=[0],
        quantity="log Z + sum p log p + beta <E>",
        observed=(log_z - math.log(2)).hex(),
        exact=["0", "0"],
    )


def _coldness(fall):
    witness = made(
        "boltzmann.mean-energy",
        [call("logsumexp", [0, 0]), call("logsumexp", [0, -1])],
        [tensor([1.0], []), tensor([1.0 - fall], [])],
        call=1,
        index=[],
        quantity="slope of log Z between two inverse temperatures",
        observed=(-fall).hex(),
        exact=["-0.6", "-0.2"],
    )
    relation = {"low": 0.0, "high": 1.0, "energies": ["0x0.0p+0", "0x1.0p+0"]}
    return changed(witness, "trial", "relation", value=relation)


def _draws(answers, count, row=(0, 0)):
    witness = made(
        "sampling.actions",
        [call("softmax", list(row))],
        [tensor(answers)],
        index=[0],
        quantity="number of draws of one action",
        observed=str(count),
    )
    return changed(witness, "trial", "relation", value={"seed": 1, "draws": 1000})


ONE_NORM, LARGEST = (f"distance of softmax(x) from arg max, {norm}" for norm in ("1-norm", "maximum norm"))
MEAN = "max(x) - the mean of x under softmax(x)"

BY_HAND = {
    "adjoint": (_pairing([0.5, 0.5]), "<vjp(dy), dx> ="),
    "slope": (_slope(1.25), "the slope is"),
    "row sum": (_row_sum(0.5, 0.25), "sums to 5.0"),
    "batch": (_batch(0.5 + 2.0**-53), "row 1"),
    "1-norm": (_moved("limits.argmax", ONE_NORM, [0, 9], [0.25, 0.5], 0.75), "distance from arg max is"),
    "maximum norm": (
        _moved("limits.argmax", LARGEST, [0, 9, 9], [0.25, 0.5, 0.25], 0.25),
        "largest distance",
    ),
    "free energy": (_free_energy(1.0), "exactly 0"),
    "slope of log Z": (_coldness(0.75), "slope of log Z is"),
    "all draws": (_draws([1.0, 0.0], 1000), "are expected: by chance below"),
    "mean": (_moved("limits.expectation", MEAN, [0, 2], [0.25, 0.25], 1.0), "mean below the maximum is 1"),
    "tropical": (_element("limits.tropical", "logsumexp", [1, 2], 2.5, []), "lies outside"),
    "-inf in range": (_element("simplex.range", "log_softmax", [0, 1], float("-inf")), "-inf where"),
}
FALSE = {
    "adjoint": (_pairing([0.5, -0.5]), "both sides"),
    "slope": (_slope(1.0), "between the two"),
    "slope, no raise": (
        changed(_slope(1.25), "trial", "relation", "place", value=0),
        "is not the first",
    ),
    "row sum": (_row_sum(0.5, -0.25), "sums to 0"),
    "row sum of no probabilities": (_row_sum(0.25, 0.25), "the exact row 1 sums to"),
    "batch": (_batch(0.5), "bit for bit"),
    "batch cut along the axis": (_batch(0.75, axis=0), "was cut"),
    "batch, another row": (changed(_batch(0.75), "finding", "call", value=1), "WRONG"),
    "distance, ties": (_moved("limits.argmax", ONE_NORM, [3, 3], [0.5, 0.5], 0.0), "is the exact one"),
    "distance, stated": (_moved("limits.argmax", ONE_NORM, [0, 9], [0.25, 0.5], 0.5), "observed is stated"),
    "distance, enclosed": (
        changed(BY_HAND["1-norm"][0], "finding", "exact", value=["0.75", "0.8"]),
        "does not hold the exact distance",
    ),
    "free energy": (_free_energy(math.log(2)), "next to 0"),
    "slope of log Z": (_coldness(0.375), "is the exact one"),
    "slope of log Z, other rows": (
        changed(_coldness(0.75), "trial", "relation", "high", value=2.0),
        "are not -2",
    ),
    "draws, as expected": (_draws([0.5, 0.5], 473), "by chance, as often as"),
    "draws, stated": (_draws([1.0, 0.0], 999), "1000 draws are counted"),
    "mean, ties": (_moved("limits.expectation", MEAN, [3, 3], [0.5, 0.5], 0.0), "is the exact one"),
    "tropical": (_element("limits.tropical", "logsumexp", [1, 2], 2.3, []), "lies between"),
    "-inf rounded to": (
        _element("simplex.range", "log_softmax", [-1.7e308, 1.7e308], float("-inf")),
        "rounds to",
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_relations_by_hand_are_true(program, name):
    witness, words = BY_HAND[name]
    line = line_of(program, witness)
    assert line.startswith("true: "), line
    assert words in line


@pytest.mark.parametrize("name", FALSE)
def test_relations_that_do_not_hold_are_named(program, name):
    witness, words = FALSE[name]
    line = line_of(program, witness)
    assert line.startswith("WRONG: "), line
    assert words in line


def test_failed_call_is_not_recomputed(program):
    failed = made(
        "accuracy.certified",
        [call("softmax", [0, 1])],
        [{"failure": "crash", "message": "signal 11"}],
        quantity="the call itself",
        observed="crash",
    )
    assert line_of(program, failed) == "not recomputed: the call failed (crash)"
    assert line_of(program, changed(failed, "finding", "observed", value="hang")).startswith("WRONG: ")


def test_bound_beyond_binary64_is_not_compared(program):
    """At an exact 0 of float64 an error of 1 is 2e323 ulp, and so may be the bound."""
    huge = _element("accuracy.certified", "softmax_vjp", [1], 1.0)
    huge = changed(huge, "trial", "calls", 0, "operands", value=[tensor([1]), tensor([1])])
    facts = {"exact": ["0", "0"], "error_ulp": [1.7976931348623157e308, "inf"]}
    assert line_of(program, stating(**facts, bound_ulp=3.0)(huge)).startswith("true: ")
    assert "not recomputed: the bound" in line_of(program, stating(**facts, bound_ulp="inf")(huge))
