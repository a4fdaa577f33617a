"""Every figure that the encyclopedia's article on the softmax function states, recomputed.

Each is held against the certified reference, whose digits are compared with the closed form evaluated by
the standard library's decimal arithmetic, and against every registered backend that runs here.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from softcert import load, reference
from softcert.backends import Worker, available, is_slow
from softcert.backends.types import Call

DIGITS = 40
#: Decimal arithmetic is correctly rounded, exp and ln included; the slack is far above its error.
SLACK = Decimal(10) ** (4 - DIGITS)
EXAMPLE = (1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0)
#: Words in the names of backends that have no softmax of their own.
_OTHERS = {"entmax", "flash", "flex", "sdpa", "standard", "xformers"}
#: The shipped example of instability is right wherever nothing overflows, as in every figure here.
BACKENDS = [
    name
    for name, state in available().items()
    if state.runs and not is_slow(name) and not _OTHERS & set(name.split("-"))
]


@pytest.fixture(autouse=True)
def _ample_precision():
    with localcontext() as context:
        context.prec = DIGITS + 20
        yield


def certified(op, *operands, **keywords):
    """Certified values as decimals of DIGITS proven digits."""
    digits = getattr(reference, op)(*operands, **keywords).digits(DIGITS)
    return [Decimal(text) for text in digits.ravel()]


def close(values, exact):
    return all(abs(v - e) <= SLACK * abs(e) for v, e in zip(values, exact, strict=True))


def closed_form(logits, beta=1):
    """exp(beta z_i) / sum exp(beta z_j) in decimal arithmetic of ample precision."""
    weights = [(_decimal(beta) * _decimal(z)).exp() for z in logits]
    return [w / sum(weights) for w in weights]


def _decimal(number):
    exact = Fraction(number)
    return Decimal(exact.numerator) / Decimal(exact.denominator)


def printed(values, places):
    return [round(float(v), places) for v in values]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    """A worker: some libraries start threads, which no later fork of this process would have."""
    with Worker(request.param) as worker:
        yield worker


def computed(backend, logits, beta=1.0, dtype="float64"):
    """Softmax by a backend; where it takes no inverse temperature, the logits are scaled first."""
    row = np.array(logits, dtype=dtype)
    params = {"axis": -1}
    if beta != 1.0 and backend.description.beta:
        params["beta"] = beta
    elif beta != 1.0:
        row = row * beta
    return backend.call(Call("softmax", (row,), params)).value


# --- the definition ---


def test_standard_softmax_of_1_2_8():
    """The softmax of (1, 2, 8) is about (0.001, 0.002, 0.997)."""
    values = certified("softmax", [1.0, 2.0, 8.0])
    assert printed(values, 3) == [0.001, 0.002, 0.997]
    assert close(values, closed_form([1, 2, 8]))


def test_standard_softmax_of_1_2_8_by_backends(backend):
    assert printed(computed(backend, [1, 2, 8]), 3) == [0.001, 0.002, 0.997]


def test_components_are_probabilities_that_follow_the_order():
    """Each component lies in (0, 1), they sum to 1, and larger inputs get larger probabilities."""
    values = certified("softmax", [-3.0, 0.5, 0.25, 7.0])
    assert all(0 < v < 1 for v in values)
    assert abs(sum(values) - 1) <= SLACK
    assert values[0] < values[2] < values[1] < values[3]


@pytest.mark.parametrize("base", [2.0, 10.0, 0.5])
def test_another_base_is_another_beta(base):
    """b**z_i / sum b**z_j is the softmax with beta = ln b: b > 1 favours large inputs, b < 1 small ones."""
    beta = math.log(base)
    values = certified("softmax", [1.0, 2.0, 4.0], beta=beta)
    assert close(values, closed_form([1, 2, 4], beta))
    # The nearest float to ln b moves the powers of b by less than 1e-15 of themselves.
    weights = [base**z for z in (1.0, 2.0, 4.0)]
    assert [float(v) for v in values] == pytest.approx([w / sum(weights) for w in weights], rel=1e-14)
    assert (values[0] < values[2]) == (base > 1)


def test_a_higher_temperature_makes_the_distribution_more_uniform():
    """Entropy grows with the temperature; a lower one lets one value dominate."""
    entropies = []
    for temperature in (Fraction(1, 10), 1, 10, 1000):
        values = certified("softmax", [1.0, 2.0, 4.0], beta=1 / Fraction(temperature))
        entropies.append(-sum(v * v.ln() for v in values))
    assert all(a < b for a, b in pairwise(entropies))
    assert entropies[-1] < Decimal(3).ln()


# --- smooth arg max ---


@pytest.mark.parametrize(
    ("logits", "argmax"),
    [
        ((1.0, 5.0, 10.0), (0, 0, 1)),
        ((1.0, 5.0, 5.0), (0, Fraction(1, 2), Fraction(1, 2))),
        ((3.0, 3.0, 3.0, 3.0), (Fraction(1, 4),) * 4),
        ((1.0, 1.0001), (0, 1)),
        ((1.0, 0.9999), (1, 0)),
    ],
)
def test_large_beta_approaches_argmax_at_the_known_rate(logits, argmax):
    """Softargmax tends to arg max, ties sharing 1/m; the error is at most (n - m) exp(-beta gap) / m."""
    top = max(logits)
    others = [top - z for z in logits if z != top]
    ties = len(logits) - len(others)
    for beta in (1.0, 64.0, 2.0**20):
        values = certified("softmax", list(logits), beta=beta)
        rate = len(others) * math.exp(-beta * min(others)) / ties if others else 0.0
        errors = [abs(v - _decimal(a)) for v, a in zip(values, argmax, strict=True)]
        assert max(errors) <= Decimal(rate) * (1 + Decimal("1e-12")) + SLACK


@pytest.mark.parametrize(("logits", "argmax"), [((1, 5, 10), (0, 0, 1)), ((1, 5, 5), (0, 0.5, 0.5))])
def test_large_beta_gives_argmax_by_backends(backend, logits, argmax):
    assert computed(backend, logits, beta=64.0) == pytest.approx(argmax, abs=1e-15)


@pytest.mark.parametrize(("logits", "limit"), [((1, 1.0001), (0, 1)), ((1, 0.9999), (1, 0))])
def test_near_ties_have_opposite_limits_by_backends(backend, logits, limit):
    """(1, 1.0001) tends to (0, 1), and (1, 0.9999) to (1, 0)."""
    # beta (z - max) is finite, and so is beta z, as the unsafe formula needs: shift to the larger first.
    shifted = np.array(logits) - max(logits)
    assert computed(backend, shifted, beta=2.0**20) == pytest.approx(limit, abs=1e-40)


@pytest.mark.parametrize("beta", [-1000.0, -1.0, 0.0, 1.0, 1e-300, 1e300])
def test_equal_inputs_give_one_half_for_every_beta(beta):
    """sigma_beta(1, 1) = 1/2 whatever beta is."""
    assert reference.softmax([1.0, 1.0], beta=beta).round("float64").tolist() == [0.5, 0.5]


@pytest.mark.parametrize("beta", [-100.0, 0.0, 1.0, 100.0])
def test_equal_inputs_give_one_half_by_backends(backend, beta):
    assert computed(backend, [1.0, 1.0], beta=beta).tolist() == [0.5, 0.5]


def test_convergence_is_slower_the_closer_to_a_tie():
    """At one beta, (1, 1 + d) is the farther from its limit the smaller d is: no uniform convergence."""
    distance = [certified("softmax", [1.0, 1.0 + d], beta=1000.0)[0] for d in (1.0, 0.1, 0.01, 0.0001)]
    assert all(near < far for near, far in pairwise(distance))
    assert distance[-1] > Decimal("0.47")


def test_large_negative_beta_approaches_argmin():
    """As beta tends to -infinity, softargmax tends to arg min."""
    assert printed(certified("softmax", [1.0, 5.0, 10.0], beta=-64.0), 30) == [1.0, 0.0, 0.0]
    assert printed(certified("softmax", [1.0, 1.0, 10.0], beta=-64.0), 30) == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("beta", [1.0, 16.0, 256.0])
def test_where_gaps_are_bounded_below_one_beta_serves_all_rows(beta):
    """Compact sets without ties keep a least gap, and the distance is at most 2 (n - 1) e^-(beta gap)."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        row = np.append(rng.uniform(-9.0, -0.25, 4), 0.0)
        distance = 2 * sum(certified("softmax", row, beta=beta)[:-1])
        assert distance <= 8 * (_decimal(-beta) / 4).exp()


@pytest.mark.parametrize("beta", [1.0, 16.0, 1024.0])
def test_with_the_sign_turned_the_tropical_limit_is_the_minimum(beta):
    """-lse(-beta z)/beta lies below min z by at most ln(n)/beta."""
    (value,) = certified("logsumexp", [-beta * z for z in (1.0, 5.0, 10.0)])
    lack = 1 + value / Decimal(beta)
    assert 0 <= lack <= Decimal(3).ln() / Decimal(beta)


@pytest.mark.parametrize("beta", [1.0, 16.0, 1024.0])
def test_the_tropical_limit_of_logsumexp_is_the_maximum(beta):
    """lse(beta z) / beta exceeds max z by at most ln(n) / beta."""
    logits = [1.0, 5.0, 10.0]
    (value,) = certified("logsumexp", [beta * z for z in logits])
    excess = value / Decimal(beta) - 10
    assert 0 <= excess <= Decimal(3).ln() / Decimal(beta)


@pytest.mark.parametrize(
    ("temperature", "stated", "places"), [(1, [0.00005, 0.99995], 5), (100, [0.475, 0.525], 3)]
)
def test_a_difference_of_ten_at_two_temperatures(temperature, stated, places):
    """(0, 10) at temperature T is (1, e**(10/T)) / (1 + e**(10/T)): uneven at 1, nearly even at 100."""
    values = certified("softmax", [0.0, 10.0], beta=Fraction(1, temperature))
    assert printed(values, places) == stated
    e = (Decimal(10) / temperature).exp()
    assert close(values, [1 / (1 + e), e / (1 + e)])


@pytest.mark.parametrize(
    ("temperature", "stated", "places"), [(1, [0.00005, 0.99995], 5), (100, [0.475, 0.525], 3)]
)
def test_a_difference_of_ten_by_backends(backend, temperature, stated, places):
    assert printed(computed(backend, [0, 10], beta=1 / temperature), places) == stated


def test_action_probabilities_at_extreme_temperatures():
    """Very hot, all actions are nearly alike; very cold, the best action has nearly all the weight."""
    rewards = [0.25, 1.0, 0.5, -2.0]
    assert printed(certified("softmax", rewards, beta=1e-9), 8) == [0.25] * 4
    assert printed(certified("softmax", rewards, beta=1e3), 8) == [0.0, 1.0, 0.0, 0.0]


# --- statistical mechanics and classification ---


def test_the_partition_function_normalizes_the_boltzmann_weights():
    """softmax = exp(beta z_i) / Z, and ln Z is the logsumexp of beta z."""
    energies = [0.5, 1.25, 3.0]
    (log_partition,) = certified("logsumexp", [2 * z for z in energies])
    values = certified("softmax", energies, beta=2.0)
    assert close(values, [(2 * Decimal(z) - log_partition).exp() for z in energies])


def test_multinomial_regression_composes_linear_functions_with_softmax():
    """P(y = j | x) is the softmax of the products x . w_j."""
    x = np.array([1.0, -2.0, 0.5])
    weights = np.array([[2.0, 0.0, 4.0], [1.0, 1.0, 1.0], [0.5, -0.25, 8.0]])
    logits = weights @ x  # exact: small integers and quarters
    assert close(certified("softmax", logits), closed_form(logits.tolist()))


# --- gradients ---


def test_both_forms_of_the_jacobian_agree():
    """d sigma_i / d q_k is sigma_i (delta_ik - sigma_k) and also sigma_k (delta_ik - sigma_i)."""
    logits = [0.5, -1.0, 2.0]
    s = closed_form(logits)
    rows = [[Decimal(t) for t in row] for row in reference.softmax_jacobian(logits).digits(DIGITS)]
    for i, row in enumerate(rows):
        assert close(row, [s[i] * ((i == k) - s[k]) for k in range(3)])
        assert close(row, [s[k] * ((i == k) - s[i]) for k in range(3)])


def test_beta_multiplies_the_jacobian():
    """Scaled by beta, the derivatives are multiplied by beta."""
    logits, beta = [0.5, -1.0, 2.0], 4.0
    scaled = reference.softmax_jacobian(logits, beta=beta).digits(DIGITS)
    plain = reference.softmax_jacobian([beta * z for z in logits]).digits(DIGITS)
    for row, unscaled in zip(scaled, plain, strict=True):
        assert close([Decimal(t) for t in row], [Decimal(beta) * Decimal(t) for t in unscaled])


def test_softmax_is_the_gradient_of_logsumexp():
    """The central difference of lse tends to softmax with the square of the step."""
    logits, step = [1.0, 2.0, 8.0], 2.0**-40
    for i, probability in enumerate(certified("softmax", logits)):
        up, down = ([z + sign * step * (i == k) for k, z in enumerate(logits)] for sign in (1, -1))
        (above,), (below,) = certified("logsumexp", up), certified("logsumexp", down)
        # The third derivative of lse is below 1, and 36 of the digits survive the difference.
        assert abs((above - below) / Decimal(2 * step) - probability) < Decimal(step) ** 2 + Decimal("1e-24")


def test_subtracting_the_maximum_changes_nothing_and_bounds_the_exponents():
    """The safe form subtracts the maximum: same value, no exponential above 1."""
    logits = [710.0, 709.0, 650.0]
    assert close(certified("softmax", logits), closed_form([z - 710.0 for z in logits]))


def test_the_safe_form_survives_what_overflows_the_plain_one():
    with np.errstate(all="ignore"):
        plain = load("numpy-naive").ops["softmax"](np.array([1000.0, 999.0]), axis=-1)
    safe = load("numpy").ops["softmax"](np.array([1000.0, 999.0]), axis=-1)
    assert np.isnan(plain).any()
    assert safe == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)], rel=1e-15)


# --- attention, one key at a time ---


def test_the_online_recurrences_give_the_softmax_weighted_sum():
    """m, l and o updated key by key end in o / l, the softmax-weighted sum of the values."""
    scores, values = [0.5, 3.0, -1.0, 3.25, 2.0], [1.0, -2.0, 0.25, 4.0, 8.0]
    row_max, row_sum, output = Decimal(scores[0]), Decimal(1), Decimal(values[0])
    for z, v in zip(scores[1:], values[1:], strict=True):
        larger = max(row_max, Decimal(z))
        row_sum = (row_max - larger).exp() * row_sum + (Decimal(z) - larger).exp()
        output = (row_max - larger).exp() * output + (Decimal(z) - larger).exp() * Decimal(v)
        row_max = larger
    weights = certified("softmax", scores)
    assert row_max == Decimal("3.25")
    assert close([output / row_sum], [sum(w * Decimal(v) for w, v in zip(weights, values, strict=True))])
    (log_sum,) = certified("logsumexp", scores)
    assert close([row_max + row_sum.ln()], [log_sum])


# --- properties ---


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_the_diagonal_gives_the_uniform_distribution(size):
    """Equal scores give 1/n each."""
    assert close(certified("softmax", [7.5] * size), [1 / Decimal(size)] * size)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_the_diagonal_gives_the_uniform_distribution_by_backends(backend, size):
    assert computed(backend, [7.5] * size) == pytest.approx([1 / size] * size, rel=1e-15)


@pytest.mark.parametrize("shift", [-1024.0, 0.5, 3.0, 2.0**40])
def test_adding_a_constant_changes_nothing(shift):
    """sigma(z + c) = sigma(z); the sums here are exact in binary64."""
    logits = [0.5, 1.0, 8.0]
    assert certified("softmax", [z + shift for z in logits]) == certified("softmax", logits)


def test_adding_a_constant_changes_nothing_by_backends(backend):
    shifted = computed(backend, [16.5, 17.0, 24.0])
    assert shifted == pytest.approx(computed(backend, [0.5, 1.0, 8.0]), rel=1e-14)


def test_scores_can_be_normalized_to_sum_to_zero():
    """Subtracting the average gives scores of sum 0 with the same softmax, positive and of sum 1."""
    logits = [1.0, 2.0, 6.0]
    centred = [z - 3.0 for z in logits]
    assert sum(centred) == 0
    assert certified("softmax", centred) == certified("softmax", logits)


def test_every_point_of_the_open_simplex_comes_from_one_row_of_sum_zero():
    """(ln p_i less their mean) has sum 0 and the softmax p; any row of that softmax differs by a constant."""
    p = [Decimal(k) / 16 for k in (1, 4, 11)]
    mean = sum(v.ln() for v in p) / 3
    row = [v.ln() - mean for v in p]
    assert abs(sum(row)) <= SLACK
    assert close(closed_form(row), p)
    # the logs are rounded to binary64 here
    nearest = certified("softmax", [float(v) for v in row])
    assert [float(v) for v in nearest] == pytest.approx([float(v) for v in p], rel=1e-15)


@pytest.mark.parametrize("factor", [1, 2])
def test_scaling_is_no_invariance(factor):
    """sigma(0, 1) = (1, e) / (1 + e) but sigma(0, 2) = (1, e**2) / (1 + e**2)."""
    e = Decimal(factor).exp()
    exact = [1 / (1 + e), e / (1 + e)]
    assert close(certified("softmax", [0.0, float(factor)]), exact)


def test_scaling_is_no_invariance_by_backends(backend):
    assert printed(computed(backend, [0, 1]), 6) == [0.268941, 0.731059]
    assert printed(computed(backend, [0, 2]), 6) == [0.119203, 0.880797]


@pytest.mark.parametrize("x", [-20.0, -1.0, 0.0, 0.5, 30.0])
def test_two_classes_are_the_logistic_function(x):
    """(x, 0) and (x/2, -x/2) both give e**x / (e**x + 1) and its complement 1 / (e**x + 1)."""
    e = Decimal(x).exp()
    exact = [e / (e + 1), 1 / (e + 1)]
    assert close(certified("softmax", [x, 0.0]), exact)
    assert close(certified("softmax", [x / 2, -x / 2]), exact)


@pytest.mark.parametrize("x", [-20.0, -1.0, 0.0, 0.5, 30.0])
def test_two_classes_are_the_logistic_function_by_backends(backend, x):
    logistic = [1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))]
    assert computed(backend, [x, 0.0]) == pytest.approx(logistic, rel=1e-14)
    assert computed(backend, [x / 2, -x / 2]) == pytest.approx(logistic, rel=1e-14)


# --- the worked example ---

AT_ONE = [0.024, 0.064, 0.175, 0.475, 0.024, 0.064, 0.175]
AT_TEN = [0.125, 0.138, 0.153, 0.169, 0.125, 0.138, 0.153]
AS_PRINTED = [0.02364054, 0.06426166, 0.1746813, 0.474833, 0.02364054, 0.06426166, 0.1746813]


def test_the_worked_example():
    """(1, 2, 3, 4, 1, 2, 3): most of the weight lies where the 4 was; the printed array to 8 places."""
    values = certified("softmax", list(EXAMPLE))
    assert printed(values, 3) == AT_ONE
    assert printed(values, 8) == AS_PRINTED
    assert close(values, closed_form(EXAMPLE))


def test_the_worked_example_at_ten_times_the_temperature():
    """The inputs are in effect (0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3), and the maximum is de-emphasized."""
    assert printed(certified("softmax", list(EXAMPLE), beta=Fraction(1, 10)), 3) == AT_TEN
    assert printed(certified("softmax", [z / 10 for z in EXAMPLE]), 3) == AT_TEN


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_worked_example_by_backends(backend, dtype):
    values = computed(backend, EXAMPLE, dtype=dtype)
    assert printed(values, 3) == AT_ONE
    assert printed(values, 7 if dtype == "float32" else 8) == [
        round(v, 7 if dtype == "float32" else 8) for v in AS_PRINTED
    ]
    assert printed(computed(backend, EXAMPLE, beta=0.1, dtype=dtype), 3) == AT_TEN
