"""The closed forms of attention's backward pass are proven, and the proofs prove what they say."""

import pytest
from sympy import Sum, diff, symbols

from softcert.reference import attention_derivation as derivation
from softcert.reference.derivation import Proof, n

ROUND = (True,) * 4


@pytest.fixture(scope="module")
def proofs():
    return derivation.prove_attention()


def test_every_closed_form_is_proven(proofs):
    assert [proof.name for proof in proofs if proof.difference != 0] == []


def test_the_cases_are_all_small_shapes_with_their_masks(proofs):
    shapes = {case[:4] for case in derivation.cases()}
    assert shapes >= {(a, b, c, d) for a in (1, 2) for b in (1, 2) for c in (1, 2) for d in (1, 2)}
    assert len([case for case in derivation.cases() if case[:4] == (2, 2, 1, 1)]) == 16
    assert len({proof.name for proof in proofs}) == len(proofs) > 500


def test_the_step_from_scores_to_output_is_proven_for_any_number_of_keys(proofs):
    named = {proof.name: proof for proof in proofs}
    assert named["attention_by_score"].derived.atoms(Sum)
    assert n in named["attention_by_value"].derived.free_symbols


def test_no_proof_is_of_nothing():
    """In the full mask every derivative of the loss depends on something."""
    case = derivation.Case(2, 2, 2, 2, ROUND)
    for proof in derivation.case_proofs(case):
        of_other_query = proof.name.startswith("dlse") and proof.name[5] != proof.name.split("/d")[1][2]
        assert (proof.derived != 0) or (of_other_query and "/dq" in proof.name)


@pytest.mark.parametrize("wrong", ["without D", "without scale", "transposed"])
def test_a_wrong_closed_form_is_not_proven(wrong):
    symbolic = derivation.Symbolic(derivation.Case(2, 2, 2, 1, ROUND))
    ds, scale = symbolic.score_gradient, derivation.scale
    dp = symbolic.dout * symbolic.v.T
    forms = {
        "without D": scale * dp.multiply_elementwise(symbolic.probabilities) * symbolic.k,
        "without scale": ds * symbolic.k,
        "transposed": scale * ds.T * symbolic.k,
    }
    derived = diff(symbolic.loss, symbolic.q[0, 0])
    proof = Proof(wrong, derived, forms[wrong][0, 0], derivation._simplified(derived - forms[wrong][0, 0]))
    assert proof.difference != 0


def test_the_definition_at_numbers():
    """Two keys, one query: out is (e**s_1 v_1 + e**s_2 v_2) / (e**s_1 + e**s_2)."""
    symbolic = derivation.Symbolic(derivation.Case(1, 2, 1, 1, (True, True)))
    numbers = {symbolic.q[0]: 2, symbolic.k[0]: 1, symbolic.k[1]: 0, symbolic.v[0]: 1, symbolic.v[1]: 0}
    numbers |= {symbolic.bias[0]: 0, symbolic.bias[1]: 0, derivation.scale: 0.5}
    assert abs(float(symbolic.out[0].subs(numbers)) - 0.7310585786300049) < 1e-15


def test_hidden_keys_are_in_no_result():
    symbolic = derivation.Symbolic(derivation.Case(2, 2, 1, 1, (True, False, False, False)))
    assert symbolic.out[1] == 0
    assert symbols("v_21", real=True) not in symbolic.loss.free_symbols
