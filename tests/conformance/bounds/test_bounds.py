"""No model-correct implementation exceeds a bound, and the worst of them comes near it.

The implementations are simulated in binary64, in the precision and range of a narrower format. Each
elementary step errs as far as the model lets it: rounded to nearest; directed, one bit finer, which is
monotone and errs by up to u like any rounding; or moved by u either way at random. Exponentials and
logarithms err by the declared number of ulps, in signs chosen against one element, alike, or at random.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.softmax import rows_of, softmax_sum_bound
from softcert.conformance.context import Context, truth_ulp
from softcert.conformance.inputs.families import FAMILIES, make_row, probabilities
from softcert.reference import format_of

LOG2E = float(np.log2(np.e))
SMALL = ("normal", "ties", "near-ties", "one-hot", "offset-up", "masked", "gap-sweep", "tiny-outputs")
ORDERS = ("sequential", "reversed", "pairwise", "lanes", "blocks")


@dataclass
class Machine:
    """Rounded arithmetic of a contract: `way` says how steps are rounded, `signs` how exp and log err."""

    dtype: str
    contract: Contract
    way: dict[str, str] = field(default_factory=dict)
    signs: str = "random"
    order: str = "sequential"
    seed: int = 0

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        a = arithmetic(self.contract, self.dtype)
        self.compute = (int(-np.log2(a.u_compute)), a.eta_compute)
        out, self.out = format_of(self.dtype), (int(-np.log2(a.u_out)), a.eta_out)
        eta_sum = max(a.eta_compute if a.u_sum == a.u_compute else 2.0**-149, 2.0**-1074)
        self.sums = (int(-np.log2(a.u_sum)), eta_sum)
        assert out.precision == self.out[0]
        self.offset = self.compute if self.contract.compute else max(self.compute, self.sums)
        self.E = a.exp_ulp

    def fl(self, v, step, where=None):
        precision, eta = where or self.compute
        v = np.asarray(v, dtype=np.float64)
        quantum = _quantum(v, precision, eta)
        # The roundings of lse and to the result's format are to nearest: their bounds rest on that.
        way = "nearest" if step == "lse" else self.way.get(step, self.way.get("*", "nearest"))
        with np.errstate(invalid="ignore"):
            if way == "nearest":
                r = np.rint(v / quantum) * quantum
            elif way == "random":
                r = v + quantum / 2 * self.rng.choice([-1.0, 1.0], v.shape) * (v != 0)
            else:
                half = quantum / 2
                r = (np.ceil if way == "up" else np.floor)(v / half) * half
        return np.where(np.isfinite(v), r, v)

    def _wrong(self, v, where, sign=None):
        """Move v by its declared ulps."""
        n = v.shape[-1] if v.ndim else 1
        signs = {
            "random": lambda: self.rng.choice([-1.0, 1.0], v.shape),
            "up": lambda: np.ones(v.shape),
            "down": lambda: -np.ones(v.shape),
            "first": lambda: np.where(np.arange(n) == 0, -1.0, 1.0) * np.ones(v.shape),
            "last": lambda: np.where(np.arange(n) == n - 1, 1.0, -1.0) * np.ones(v.shape),
            "exact": lambda: np.zeros(v.shape),
        }[sign or self.signs]()
        return v + np.where(v != 0, signs * self.E * _quantum(v, *where), 0.0)

    def exp(self, t, base2=False, where=None, sign=None):
        with np.errstate(under="ignore"):
            v = np.exp2(t) if base2 else np.exp(t)
        wrong = np.maximum(self._wrong(v, where or self.compute, sign), 0.0)
        # Every exponential in use gives 1 where the exact value rounds to 1.
        return np.where(np.abs(t) <= 2.0 ** -self.compute[0], 1.0, wrong)

    def log(self, s, base2=False):
        v = np.log2(s) if base2 else np.log(s)
        return self._wrong(np.asarray(v), self.compute, "up" if self.signs == "first" else None)

    def add(self, a, b):
        return self.fl(a + b, "sum", self.sums)

    def total(self, w):
        """Sum of the last axis in the machine's order, brought to the format computed in."""
        s = self._total(np.moveaxis(w, -1, 0), self.order)
        return self.fl(s, "narrow") if self.sums[0] > self.compute[0] else s

    def _total(self, w, order):
        if order == "pairwise":
            while len(w) > 1:
                pairs = self.add(w[0 : len(w) - 1 : 2], w[1::2])
                w = np.concatenate([pairs, w[-1:]]) if len(w) % 2 else pairs
            return w[0]
        if order in {"lanes", "blocks"}:
            size = 8 if order == "lanes" else -(-len(w) // 8)
            parts = (
                [w[k::8] for k in range(8)]
                if order == "lanes"
                else [w[k : k + size] for k in range(0, len(w), size)]
            )
            return self._total(
                np.stack([self._total(p, "sequential") for p in parts if len(p)]), "sequential"
            )
        w = w[::-1] if order == "reversed" else w
        s = w[0]
        for v in w[1:]:
            s = self.add(s, v)
        return s

    def quotient(self, w, s):
        s = np.asarray(s)[..., None]
        if self.way.get("reciprocal"):
            return self.result(w * self.fl(1.0 / s, "division"), "division")
        return self.result(w / s, "division")

    def result(self, v, step):
        """The last step, then the rounding to a narrower result."""
        v = self.fl(v, step)
        return self.fl(v, "out", self.out) if self.out[0] < self.compute[0] else v


def _quantum(v, precision, eta):
    _, e = np.frexp(np.where(np.isfinite(v), v, 1.0))
    return np.maximum(np.ldexp(1.0, np.clip(e - precision, -1074, 1000)), eta)


# --- forms of softmax ---


def by_division(m, x, beta=1.0):
    t = m.fl(x - (x.max() if beta > 0 else x.min()), "argument")
    if beta != 1.0:
        t = m.fl(t * m.fl(beta, "factor"), "argument")
    w = m.exp(t)
    return m.quotient(w, m.total(w))


def beta_first(m, x, beta=1.0):
    """beta x rounded before the maximum is subtracted."""
    z = m.fl(x * m.fl(beta, "factor"), "product")
    w = m.exp(m.fl(z - z.max(), "argument"))
    return m.quotient(w, m.total(w))


def base_two(m, x):
    """2^(c x - c max), each product rounded."""
    z = m.fl(x * m.fl(LOG2E, "factor"), "product", m.offset)
    w = m.exp(m.fl(z - z.max(), "argument"), base2=True)
    return m.quotient(w, m.total(w))


def base_two_fused(m, x):
    """2^fma(x, c, -(c max)): one rounding of the product, common to the row."""
    c = float(m.fl(LOG2E, "factor"))
    with np.errstate(invalid="ignore"):
        w = m.exp(m.fl(x * c - m.fl(x.max() * c, "product"), "argument"), base2=True)
    return m.quotient(w, m.total(w))


def through_lse(m, x):
    w = m.exp(m.fl(x - x.max(), "argument"))
    lse = m.fl(x.max() + m.log(m.total(w)), "lse", m.offset)
    return m.result(m.exp(m.fl(x - lse, "argument")), "division")


def _online(m, x, parts):
    """Running maximum and sum over `parts` of the row, rescaled whenever the maximum rises."""
    top, s = -np.inf, np.float64(0.0)
    for part in parts:
        new = max(top, part.max())
        if new == -np.inf:
            continue
        if new > top and s > 0:
            alpha = m.exp(m.fl(np.asarray([top - new]), "argument"), where=m.sums, sign="up")[0]
            s = m.fl(s * alpha, "rescale", m.sums)
        w = m.exp(m.fl(part - new, "argument"), sign="up")
        s, top = m.add(s, m._total(w, "sequential")), new
    s = m.fl(s, "narrow") if m.sums[0] > m.compute[0] else s
    return m.quotient(m.exp(m.fl(x - top, "argument"), sign="down"), s)


def online(m, x):
    return _online(m, x, [x[k : k + 1] for k in range(len(x))])


def online_in_blocks(m, x):
    return _online(m, x, [x[k : k + 4] for k in range(0, len(x), 4)])


def online_backwards(m, x):
    return _online(m, x, [x[k : k + 1] for k in reversed(range(len(x)))])


def online_in_lanes(m, x):
    """Strided lanes, each online, merged from the last to the first at the greater maximum."""
    size = int(np.sqrt(len(x)))
    top, s = -np.inf, np.float64(0.0)
    for lane in reversed(range(size)):
        high, part = -np.inf, np.float64(0.0)
        for v in x[lane::size]:
            high, part = _merged(
                m, (high, part), (max(high, v), m.exp(m.fl(v - max(high, v), "argument"), sign="up"))
            )
        top, s = _merged(m, (top, s), (high, part))
    return m.quotient(m.exp(m.fl(x - top, "argument"), sign="down"), s)


def _merged(m, a, b):
    """Sum of two (maximum, sum) pairs at the greater maximum."""
    new = max(a[0], b[0])
    scaled = []
    for top, s in (a, b):
        alpha = m.exp(m.fl(np.asarray([top - new]), "argument"), where=m.sums, sign="up")[0]
        scaled.append(s if top == new else m.fl(s * alpha, "rescale", m.sums))
    return new, m.add(*scaled)


DIVISION, ANY = Contract(form="division"), Contract(form="any")
FORMS = (
    (DIVISION, by_division),
    (ANY, base_two),
    (ANY, base_two_fused),
    (ANY, through_lse),
    (ANY, online),
    (ANY, online_in_blocks),
    (ANY, online_backwards),
)


# --- the other ops ---


def lse_natural(m, x):
    s = m.total(m.exp(m.fl(x - x.max(), "argument")))
    return m.result(x.max() + m.log(s), "out")


def lse_base_two(m, x):
    c = m.fl(LOG2E, "factor")
    s = m.total(m.exp(m.fl(m.fl(x - x.max(), "argument") * c, "argument"), base2=True))
    top = m.fl(x.max() * m.fl(LOG2E, "factor", m.offset), "product", m.offset)
    z = m.fl(top + m.log(s, base2=True), "lse", m.offset)
    return m.result(z * m.fl(1 / LOG2E, "factor", m.offset), "out")


def log_softmax_natural(m, x):
    t = m.fl(x - x.max(), "argument")
    return m.result(t - m.log(m.total(m.exp(t))), "out")


def log_softmax_base_two(m, x):
    t = m.fl(m.fl(x - x.max(), "argument") * m.fl(LOG2E, "factor"), "argument")
    z = m.fl(t - m.log(m.total(m.exp(t, base2=True)), base2=True), "lse")
    return m.result(z * m.fl(1 / LOG2E, "factor"), "out")


def vjp_factored(m, y, dy):
    s = m.total(m.fl(y * dy, "product"))
    return m.result(y * m.fl(dy - s, "argument"), "out")


def vjp_expanded(m, y, dy):
    s = m.total(m.fl(y * dy, "product"))
    return m.result(m.fl(y * dy, "product") - m.fl(y * s, "product"), "out")


def vjp_by_matrix(m, y, dy):
    jacobian = m.fl(-np.outer(y, y), "product")
    np.fill_diagonal(jacobian, m.fl(y - m.fl(y * y, "product"), "argument"))
    return m.result(m.total(m.fl(jacobian * dy, "product")), "out")


OTHERS = (
    ("logsumexp", DIVISION, lse_natural),
    ("logsumexp", ANY, lse_base_two),
    ("log_softmax", DIVISION, log_softmax_natural),
    ("log_softmax", ANY, log_softmax_base_two),
    ("softmax_vjp", DIVISION, vjp_factored),
    ("softmax_vjp", ANY, vjp_expanded),
    ("softmax_vjp", ANY, vjp_by_matrix),
)


# --- machines and ratios ---


def monotone_ways():
    """Steps rounded consistently in one direction each, which keeps rounding monotone."""
    yield {}
    for argument, sums, division in product(("up", "down"), repeat=3):
        yield {"argument": argument, "sum": sums, "division": division, "product": argument, "out": division}
        yield {"*": sums, "argument": argument, "division": division, "reciprocal": True}


def machines(dtype, contract, *, monotone):
    ways = (
        [*monotone_ways()]
        if monotone
        else [*monotone_ways(), {"*": "random"}, {"*": "random", "reciprocal": True}]
    )
    for k, way in enumerate(ways):
        signs = ("first", "last", "random", "up", "down", "exact")[k % 6]
        yield Machine(dtype, contract, way, signs, ORDERS[k % 5], seed=k)
        yield Machine(dtype, contract, way, ("first", "last")[k % 2], ORDERS[(k + 2) % 5], seed=k)


def context_of(op, dtype, contract):
    return Context(op=op, dtype=dtype, contract=contract, ops=(op,))


def facts(op, dtype, contract, operands, beta=1.0):
    """Exact values and absolute bounds of a call."""
    params = {"axis": -1} if beta == 1.0 else {"axis": -1, "beta": beta}
    call, context = Call(op, operands, params), context_of(op, dtype, contract)
    truth = context.truth(call)
    return truth.to_float64(), context.bound_ulp(call, truth) * truth_ulp(truth, dtype)


def worst_ratio(form, op, dtype, contract, operands, *, beta=1.0, monotone=True, some=1):
    exact, bound = facts(op, dtype, contract, operands, beta)
    wide = [a.astype(np.float64) for a in operands]
    worst = 0.0
    for machine in list(machines(dtype, contract, monotone=monotone))[::some]:
        with np.errstate(all="ignore"):
            given = form(machine, *wide) if beta == 1.0 else form(machine, *wide, beta)
            error = np.where(np.isfinite(exact), np.abs(given - exact), 0.0)
        error, held = np.broadcast_arrays(error, bound)
        assert np.isfinite(error).all()
        worst = max(worst, float((error[error > 0] / held[error > 0]).max(initial=0.0)))
    return worst


def families_for(form):
    left_out = {"near-overflow", "wide"} if form in {base_two, base_two_fused, lse_base_two} else set()
    return [f for f in FAMILIES if f not in left_out]


#: Formats of the result and of the element-wise steps; sums of 16-bit formats are in float32.
FORMATS = (
    ("float32", None),
    ("float16", None),
    ("float16", "float32"),
    ("bfloat16", None),
    ("bfloat16", "float32"),
)


def by_name(value):
    return getattr(value, "__name__", getattr(value, "form", None))


@pytest.mark.parametrize(("dtype", "compute"), FORMATS)
@pytest.mark.parametrize(("contract", "form"), FORMS, ids=by_name)
def test_no_form_of_softmax_exceeds_its_bound(contract, form, dtype, compute):
    promised = replace(contract, compute=compute)
    for family in families_for(form):
        for n in (1, 2, 9, 33):
            x = make_row(family, n, n, 3.0, dtype)
            monotone = contract is ANY
            ratio = worst_ratio(
                form, "softmax", dtype, promised, (x,), monotone=monotone, some=5 if n < 9 else 14
            )
            assert ratio <= 1.0, (family, n, ratio)


@pytest.mark.parametrize(("contract", "form"), FORMS, ids=by_name)
def test_no_form_of_softmax_exceeds_its_bound_on_a_long_row(contract, form):
    x = make_row("near-ties", 1000, 3, 2.0, "float32")
    assert worst_ratio(form, "softmax", "float32", contract, (x,), some=13) <= 1.0


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_lanes_merged_one_by_one_stay_within_the_longest_climb(size):
    """Maxima that rise along each lane and again from lane to lane: the most rescales for their climb."""
    row, lane = np.divmod(np.arange(size * size), size)
    x = (2.0**-12 * (row * size + size - 1 - lane)).astype(np.float32)
    assert rows_of(x.astype(np.float64), 1.0, any_order=True).rescales.item() >= size - 1
    assert worst_ratio(online_in_lanes, "softmax", "float32", ANY, (x,)) <= 1.0


@pytest.mark.parametrize("beta", [0.3, 1.7, 10.0, -2.3])
@pytest.mark.parametrize(
    ("contract", "form"),
    [(DIVISION, by_division), (DIVISION, beta_first), (ANY, by_division), (ANY, beta_first)],
)
def test_an_inverse_temperature_may_be_multiplied_before_or_after(contract, form, beta):
    for family in ("normal", "ties", "offset-up", "gap-sweep", *(["masked"] if beta > 0 else [])):
        for n in (2, 3, 17):
            x = make_row(family, n, n, 1.0, "float32")
            assert worst_ratio(form, "softmax", "float32", contract, (x,), beta=beta, some=3) <= 1.0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("contract", "form"), [FORMS[0], *FORMS[1:5]], ids=by_name)
def test_sums_of_the_outputs_stay_within_their_bound(contract, form, dtype):
    for family in set(families_for(form)) - ({"wide", "near-overflow"} if contract is ANY else set()):
        for n in (1, 2, 9, 33):
            x = make_row(family, n, n, 3.0, dtype).astype(np.float64)
            rows = rows_of(x, 1.0, any_order=contract is ANY)
            limit = softmax_sum_bound(rows, arithmetic(contract, dtype)).item()
            for machine in list(machines(dtype, contract, monotone=contract is ANY))[::9]:
                with np.errstate(all="ignore"):
                    total = float(np.sum(form(machine, x)))
                assert abs(total - 1.0) <= limit, (family, n)


def test_the_bound_of_a_sum_is_a_number_for_gaps_of_any_size():
    rows = rows_of(np.array([-2.5e13, 0.0]), 1.0, any_order=True)
    assert softmax_sum_bound(rows, arithmetic(ANY, "float32")).item() < 1e-5


def operands_of(op, family, n, dtype):
    x = make_row(family, n, n, 3.0, dtype)
    if op != "softmax_vjp":
        return (x,)
    dy = make_row("one-hot" if family == "equal" else "normal", n, n + 1, 4.0, dtype)
    return probabilities(x), dy


@pytest.mark.parametrize(("dtype", "compute"), FORMATS)
@pytest.mark.parametrize(("op", "contract", "form"), OTHERS, ids=by_name)
def test_no_form_of_the_other_ops_exceeds_its_bound(op, contract, form, dtype, compute):
    if op != "softmax_vjp" and compute is not None:
        return  # the next test
    promised = replace(contract, compute=compute)
    families = [
        f for f in families_for(form) if op != "softmax_vjp" or f in {"normal", "equal", "ties", "gap-sweep"}
    ]
    for family in families:
        for n in (1, 2, 9, 33):
            operands = operands_of(op, family, n, dtype)
            monotone = contract is ANY
            ratio = worst_ratio(
                form, op, dtype, promised, operands, monotone=monotone, some=5 if n < 9 else 14
            )
            assert ratio <= 1.0, (family, n, ratio)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("op", "contract", "form"), OTHERS[:4], ids=by_name)
def test_a_logarithm_may_be_rounded_to_a_narrower_result(op, contract, form, dtype):
    x = make_row("normal", 5, 5, 1.0, dtype)
    machine = Machine(dtype, replace(contract, compute="float32"), signs="exact")
    exact, bound = facts(op, dtype, machine.contract, (x,))
    assert (np.abs(form(machine, x.astype(np.float64)) - exact) <= bound).all()


def test_the_bound_of_log_softmax_counts_products_of_errors():
    x = make_row("increasing", 33, 33, 3.0, "bfloat16")
    assert worst_ratio(log_softmax_natural, "log_softmax", "bfloat16", DIVISION, (x,), monotone=False) <= 1.0


#: Worst observed / bound that each form must reach; docs/explanation/bounds.md tabulates what it reaches.
FLOORS = {
    "by_division": 0.8,
    "base_two": 0.8,
    "base_two_fused": 0.8,
    "through_lse": 0.8,
    "online": 0.3,
    "online_in_blocks": 0.3,
    "online_backwards": 0.3,
    "lse_natural": 0.9,
    "lse_base_two": 0.3,
    "log_softmax_natural": 0.9,
    "log_softmax_base_two": 0.3,
    "vjp_factored": 0.4,
    "vjp_expanded": 0.1,
    "vjp_by_matrix": 0.15,
}


def sharpness(op, contract, form, dtype):
    """Worst observed / bound of a form over a few short rows."""
    families = [
        f
        for f in families_for(form)
        if f in {"normal", "one-hot", "ties", "gap-sweep", "increasing", "peak-last"}
    ]
    rows = [operands_of(op, f, n, dtype) for f in families for n in (2, 3, 9)]
    return max(
        worst_ratio(form, op, dtype, contract, o, monotone=contract.form == "any", some=2) for o in rows
    )


EVERY_FORM = tuple(("softmax", c, f) for c, f in FORMS) + OTHERS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("op", "contract", "form"), EVERY_FORM, ids=by_name)
def test_the_worst_implementation_comes_near_its_bound(op, contract, form, dtype):
    assert sharpness(op, contract, form, dtype) >= FLOORS[form.__name__]
