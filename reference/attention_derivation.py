"""The backward pass of attention from its definition, by sympy, for symbolic entries and a symbolic scale.

Two layers. For a symbolic number of keys, the derivatives of one query's output and lse by its scores, as
`derivation.py` proves its own. Then the whole chain, down to every entry of q, k and v, for small shapes and
masks: the loss sum_ic dout_ic out_ic is differentiated as it stands, and the result compared with the closed
forms that `attention_gradients.py` evaluates (Dao et al., arXiv:2205.14135, appendix B.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

from sympy import (
    Expr,
    IndexedBase,
    Matrix,
    S,
    Sum,
    Symbol,
    cancel,
    diff,
    exp,
    expand,
    log,
    simplify,
    symbols,
)

from softcert.reference.derivation import Proof, collapse, j, k, n

#: The scale, whatever it is.
scale = Symbol("scale", real=True)
#: One query's scores and values, for a symbolic number of keys.
s, u = IndexedBase("s"), IndexedBase("u")


class Case(NamedTuple):
    """A shape, and which of its L * S pairs of a query and a key are visible."""

    queries: int
    keys: int
    depth: int
    columns: int
    visible: tuple[bool, ...]

    def sees(self, query: int, key: int) -> bool:
        """Whether a query sees a key."""
        return self.visible[query * self.keys + key]

    @property
    def name(self) -> str:
        """Shape and mask, as L2 S2 D1 Dv1 mask 1011."""
        bits = "".join("1" if bit else "0" for bit in self.visible)
        return f"L{self.queries} S{self.keys} D{self.depth} Dv{self.columns} mask {bits}"


class Symbolic:
    """Attention of one case with a symbol for each entry, and its backward pass in closed form."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.q = _symbols("q", case.queries, case.depth)
        self.k = _symbols("k", case.keys, case.depth)
        self.v = _symbols("v", case.keys, case.columns)
        self.dout = _symbols("g", case.queries, case.columns)
        self.bias = _symbols("b", case.queries, case.keys)

    def score(self, query: int, key: int) -> Expr:
        """scale q_i . k_j + b_ij."""
        return scale * self.q.row(query).dot(self.k.row(key)) + self.bias[query, key]

    def _seen(self, query: int) -> list[int]:
        return [key for key in range(self.case.keys) if self.case.sees(query, key)]

    def partition(self, query: int) -> Expr:
        """Sum of exp(score) over the keys that a query sees."""
        return sum((exp(self.score(query, key)) for key in self._seen(query)), S.Zero)

    @cached_property
    def out(self) -> Matrix:
        """The definition; 0 where a query sees no key."""

        def entry(query: int, column: int) -> Expr:
            seen = self._seen(query)
            total = sum((exp(self.score(query, key)) * self.v[key, column] for key in seen), S.Zero)
            return total / self.partition(query) if seen else S.Zero

        return Matrix(self.case.queries, self.case.columns, entry)

    @cached_property
    def loss(self) -> Expr:
        """sum_ic dout_ic out_ic, whose derivatives are the cotangents."""
        return sum((a * b for a, b in zip(self.dout, self.out, strict=True)), S.Zero)

    @cached_property
    def probabilities(self) -> Matrix:
        """P: exp(score - lse), 0 where hidden."""

        def entry(query: int, key: int) -> Expr:
            if not self.case.sees(query, key):
                return S.Zero
            return exp(self.score(query, key)) / self.partition(query)

        return Matrix(self.case.queries, self.case.keys, entry)

    @cached_property
    def score_gradient(self) -> Matrix:
        """dS = P (dP - D) with dP = dout v^T and D_i = sum_c dout_ic out_ic."""
        dp, p = self.dout * self.v.T, self.probabilities
        d = [self.dout.row(query).dot(self.out.row(query)) for query in range(self.case.queries)]
        return Matrix(*p.shape, lambda query, key: p[query, key] * (dp[query, key] - d[query]))

    def closed_forms(self) -> list[tuple[str, Matrix, Matrix]]:
        """(name, variables, closed form of the derivative of the loss by them)."""
        ds = self.score_gradient
        return [
            ("dq", self.q, scale * ds * self.k),
            ("dk", self.k, scale * ds.T * self.q),
            ("dv", self.v, self.probabilities.T * self.dout),
            ("dS", self.bias, ds),
        ]


def _symbols(name: str, rows: int, columns: int) -> Matrix:
    return Matrix(rows, columns, lambda a, b: Symbol(f"{name}_{a + 1}{b + 1}", real=True))


def _simplified(difference: Expr) -> Expr:
    """Simplify, each exponential replaced by a symbol, in which everything here is rational.

    What is 0 for independent symbols is 0 for exponentials. exp(-x) is 1 over the symbol of exp(x).
    """
    names: dict[Expr, Symbol] = {}
    replaced = {}
    for atom in sorted(difference.atoms(exp), key=str):
        negative = atom.args[0].could_extract_minus_sign()
        argument = expand(-atom.args[0] if negative else atom.args[0])
        name = names.setdefault(argument, Symbol(f"E_{len(names)}", positive=True))
        replaced[atom] = 1 / name if negative else name
    return simplify(cancel(difference.xreplace(replaced)))


def case_proofs(case: Case) -> list[Proof]:
    """Every entry of dq, dk, dv, dS and D, and of the gradients of lse, of one case."""
    symbolic = Symbolic(case)
    proofs = []
    for name, variables, closed in symbolic.closed_forms():
        for at, (variable, form) in enumerate(zip(variables, closed, strict=True)):
            derived = diff(symbolic.loss, variable)
            proofs.append(Proof(f"{name}[{at}] {case.name}", derived, form, _simplified(derived - form)))
    return proofs + _row_sum_proofs(symbolic) + _lse_proofs(symbolic)


def _row_sum_proofs(symbolic: Symbolic) -> list[Proof]:
    """D_i, written with out in the closed forms, is the sum of P_ij dP_ij that the softmax Jacobian has."""
    p, dp, proofs = symbolic.probabilities, symbolic.dout * symbolic.v.T, []
    for query in range(symbolic.case.queries):
        derived = p.row(query).dot(dp.row(query))
        closed = symbolic.dout.row(query).dot(symbolic.out.row(query))
        difference = _simplified(derived - closed)
        proofs.append(Proof(f"D[{query}] {symbolic.case.name}", derived, closed, difference))
    return proofs


def _lse_proofs(symbolic: Symbolic) -> list[Proof]:
    """d lse_i / d q_ic = scale sum_j P_ij k_jc and d lse_i / d k_jc = scale P_ij q_ic."""
    case, p = symbolic.case, symbolic.probabilities
    by_q, proofs = scale * p * symbolic.k, []
    for query in range(case.queries):
        lse = log(symbolic.partition(query)) if any(p.row(query)) else S.Zero
        forms = [(symbolic.q[query, c], by_q[query, c]) for c in range(case.depth)]
        forms += [
            (symbolic.k[key, c], scale * p[query, key] * symbolic.q[query, c])
            for key in range(case.keys)
            for c in range(case.depth)
        ]
        for variable, form in forms:
            derived = diff(lse, variable)
            name = f"dlse_{query + 1}/d{variable} {case.name}"
            proofs.append(Proof(name, derived, form, _simplified(derived - form)))
    return proofs


def cases() -> list[Case]:
    """Every shape of one or two queries, keys, features and columns, and two of three keys.

    Where there is one feature and one column, with all masks.
    """
    found = []
    for queries, keys, depth, columns in product((1, 2), repeat=4):
        everything = product((True, False), repeat=queries * keys)
        plain = depth == 1 and columns == 1
        masks: Sequence[tuple[bool, ...]] = list(everything) if plain else _some_masks(queries, keys)
        found += [Case(queries, keys, depth, columns, mask) for mask in masks]
    return found + [Case(1, 3, 1, 1, (True,) * 3)] + [Case(3, 3, 1, 1, mask) for mask in _some_masks(3, 3)]


def _some_masks(queries: int, keys: int) -> list[tuple[bool, ...]]:
    """Return the mask that hides nothing and the causal one aligned bottom-right."""
    causal = tuple(b <= a + keys - queries for a in range(queries) for b in range(keys))
    return list(dict.fromkeys([(True,) * (queries * keys), causal]))


def _output() -> Expr:
    """One query's output in one column, for n keys: the definition."""
    return Sum(exp(s[k]) * u[k], (k, 1, n)) / Sum(exp(s[k]), (k, 1, n))


def output_by_score_proof() -> Proof:
    """d out / d s_j = p_j (v_j - out), for a symbolic number of keys: what dS is made of."""
    weight = exp(s[j]) / Sum(exp(s[k]), (k, 1, n))
    derived, closed = collapse(diff(_output(), s[j])), weight * (u[j] - _output())
    return Proof("attention_by_score", derived, closed, simplify(derived - closed))


def output_by_value_proof() -> Proof:
    """d out / d v_j = p_j, for a symbolic number of keys."""
    derived, closed = collapse(diff(_output(), u[j])), exp(s[j]) / Sum(exp(s[k]), (k, 1, n))
    return Proof("attention_by_value", derived, closed, simplify(derived - closed))


def merge_proof() -> Proof:
    """The merge of two key sets of one query is attention over their union, from the partial sums alone."""
    weight_a, weight_b, sum_a, sum_b = symbols("Z_a Z_b N_a N_b", positive=True)
    out_a, out_b, lse_a, lse_b = sum_a / weight_a, sum_b / weight_b, log(weight_a), log(weight_b)
    derived = (sum_a + sum_b) / (weight_a + weight_b)
    closed = (exp(lse_a) * out_a + exp(lse_b) * out_b) / (exp(lse_a) + exp(lse_b))
    return Proof("attention_merge", derived, closed, simplify(derived - closed))


def prove_attention() -> list[Proof]:
    """Every derivative of attention that the reference evaluates, each with a difference that must be 0."""
    general = [output_by_score_proof(), output_by_value_proof(), merge_proof()]
    return general + [proof for case in cases() for proof in case_proofs(case)]
