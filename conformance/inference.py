"""The tightest contract that a subject meets, found by counterexamples.

A contract that agrees with every counterexample known so far is proposed, as tight as can be, and the subject
examined by it; each clause that it breaks gives one more counterexample. The subject is asked for each
trial once: its answers are judged again by every contract that is proposed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, product
from typing import Any

from softcert.backends import Description, Limits, Worker, exchange
from softcert.backends.contract import Contract
from softcert.backends.types import Call, Reply
from softcert.conformance.contract_fields import (
    ARITHMETIC,
    EXP_ULPS,
    LARGEST_EXP_ULP,
    NARROW,
    USUAL_EXP_ULP,
    ContractField,
    at_least_as_strict,
    exp_field,
    fields_for,
    laxest,
)
from softcert.conformance.examination.examine import judge_trial
from softcert.conformance.examination.job import (
    Item,
    Live,
    Source,
    Task,
    clause_named,
    context_of,
    examine_all,
    lacks_of,
    refusals,
)
from softcert.conformance.judging.failures import failure_of
from softcert.conformance.model import BROKEN, RequestError, Trial, Verdict
from softcert.conformance.request import Names, Request, Subject, as_spec
from softcert.conformance.wire.toml_files import toml_table

#: Called with the number of the proposal, the items examined, the items in all, and the one at work.
Watch = Callable[[int, int, int, Item], None]


@dataclass(frozen=True)
class Decision:
    """What was found of a field.

    Attributes
    ----------
    cases : judged by clauses that speak of the field, with the value found.
    refuted : clause that is broken by the next stricter value, if there is one.
    """

    name: str
    value: Any
    cases: int
    refuted: str = ""

    @property
    def decided(self) -> bool:
        """Whether anything that was tried speaks of the field."""
        return self.cases > 0 or bool(self.refuted)


@dataclass(frozen=True)
class Inferred:
    """The tightest contract that a subject meets.

    Attributes
    ----------
    subject, name : how it was named, and how reports call it.
    contract : fields that were not decided have their defaults.
    decisions : in the order in which the fields were made tight.
    verdicts : of the examination by that contract.
    rounds : how many contracts were proposed.
    """

    subject: str
    name: str
    contract: Contract
    decisions: tuple[Decision, ...]
    verdicts: tuple[Verdict, ...]
    rounds: int

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """Clauses that are broken whatever is promised."""
        return tuple(v for v in self.verdicts if v.status in BROKEN)


def infer(
    subject: Subject,
    *,
    op: str | None = None,
    ops: Names | None = None,
    dtypes: Names | None = None,
    profile: str = "smoke",
    seed: int = 0,
    limits: Limits | None = None,
    progress: Watch | None = None,
) -> Inferred:
    """Find the tightest contract that a subject meets on all that a profile tries.

    Parameters
    ----------
    subject, op, ops, dtypes, profile, seed, limits : as for `check`.
    progress : called before each item is examined.

    Raises
    ------
    RequestError, SubjectError, OracleError : as for `check`.
    """
    request = Request.of(op, ops, dtypes, None, None, limits, profile, seed)
    spec = as_spec(subject, op)
    with Worker(spec, op=request.op, limits=request.limits) as worker:
        described = worker.description
        chosen, typed = request.ops_of(described.ops), request.dtypes_of(described.dtypes)
        plan = request.plan(chosen, typed)
        source = Live(worker)
        refused = refusals(source, chosen, typed) if described.assumed and not request.dtypes else {}
        task = Task(
            subject=spec if isinstance(spec, str) else described.name,
            op=request.op,
            contract=None,
            limits=request.limits,
            # What is broken is only sorted out here; no witness needs to be small.
            profile=replace(request.effort, shrinks=0),
            seed=request.seed,
            refused=refused,
            lacks=lacks_of(source, chosen, typed, refused, request.effort.thorough),
        )
        taken = [dtype for dtype in typed if any((op, dtype) not in refused for op in chosen)]
        if not taken:
            raise RequestError("the subject takes none of the dtypes, so that nothing can be inferred of it")
        return _Inference(_Kept(source), task, plan, fields_for(taken), progress).run()


# --- answers that are judged again -----------------------------------------------------------------


@dataclass
class _Kept:
    """A source that asks for each trial once, and lets the subject promise anything."""

    source: Source
    contract: Contract = field(default_factory=Contract)
    _known: dict[tuple[Item, str], list[tuple[Reply, ...]]] = field(default_factory=lambda: defaultdict(list))
    _taken: dict[tuple[Item, str], int] = field(default_factory=lambda: defaultdict(int))

    @property
    def description(self) -> Description:
        """What the subject is, with what it is to promise."""
        return replace(self.source.description, contract=self.contract)

    def promise(self, contract: Contract) -> None:
        """Let the subject promise this, and begin to ask anew."""
        self.contract = contract
        self._taken.clear()

    def call(self, call: Call) -> Reply:
        """Reply to a call that belongs to no item."""
        return self.source.call(call)

    def answers(self, item: Item, trial: Trial) -> tuple[Reply, ...] | None:
        """Replies to the calls of a trial, the same for every contract."""
        key = (item, exchange.digest(trial.calls))
        known, place = self._known[key], self._taken[key]
        self._taken[key] += 1
        if place >= len(known):
            replies = self.source.answers(item, trial)
            if replies is None:
                return None
            known.append(replies)
        return known[place]


# --- proposals and counterexamples -----------------------------------------------------------------


@dataclass
class _Inference:
    source: _Kept
    task: Task
    plan: Sequence[Item]
    fields: tuple[ContractField, ...]
    progress: Watch | None
    counterexamples: list[tuple[Item, Verdict]] = field(default_factory=list)
    hopeless: dict[Item, Verdict] = field(default_factory=dict)
    passed: dict[Item, tuple[Contract, Verdict]] = field(default_factory=dict)
    rounds: int = 0
    _truths: dict[tuple[str, str], Any] = field(default_factory=dict)

    def run(self) -> Inferred:
        """Find the contract, and say what it rests on."""
        fixed = self._forward()
        contract = self._settled(self.plan, fixed, USUAL_EXP_ULP)
        contract = self._sharpened(contract)
        verdicts = tuple(self.hopeless.get(item) or self.passed[item][1] for item in self.plan)
        decisions = tuple(self._decision(f, contract, verdicts) for f in (*self.fields, exp_field()))
        undecided = {d.name: getattr(Contract(), d.name) for d in decisions if not d.decided}
        described = self.source.description
        return Inferred(
            self.task.subject,
            described.name,
            replace(contract, **undecided),
            decisions,
            verdicts,
            self.rounds,
        )

    def _forward(self) -> dict[str, Any]:
        """Values of the fields on which inputs of a backward pass depend, by what a forward pass gives."""
        items = [item for item in self.plan if item.op != "attention_vjp"]
        contract = self._settled(items, {}, USUAL_EXP_ULP) if items else Contract()
        return {f.name: getattr(contract, f.name) for f in self.fields if f.forward}

    def _settled(self, items: Sequence[Item], fixed: dict[str, Any], exp_ulp: float) -> Contract:
        """Propose contracts until nothing but what is hopeless breaks one."""
        while True:
            contract = self._proposal(fixed, exp_ulp)
            if contract is None:
                # Each could be allowed, and no contract allows them all: ops that differ in a convention.
                item, verdict = self.counterexamples.pop()
                self.hopeless[item] = verdict
            elif not self._examined(items, contract, fixed):
                return contract

    def _sharpened(self, contract: Contract) -> Contract:
        """The contract with the smallest error of the exponential that it is met with."""
        low, high = 0, EXP_ULPS.index(contract.exp_ulp)
        while low < high:
            middle = (low + high) // 2
            tried = replace(contract, exp_ulp=EXP_ULPS[middle])
            if self._agrees(tried) and not self._examined(self.plan, tried, None):
                high = middle
            else:
                low = middle + 1
        return replace(contract, exp_ulp=EXP_ULPS[high])

    def _examined(self, items: Sequence[Item], contract: Contract, fixed: dict[str, Any] | None) -> bool:
        """Examine by a contract; whether something breaks it that another one might allow.

        Parameters
        ----------
        fixed : fields that no other contract may change; None where what is broken is not looked into.
        """
        self.rounds += 1
        self.source.promise(contract)
        todo = [item for item in items if not self._known_to_hold(item, contract)]
        broken = False
        for number, item in enumerate(todo):
            if self.progress is not None:
                self.progress(self.rounds, number, len(todo), item)
            (verdict,) = examine_all(self.source, self.task, [item])
            if verdict.status not in BROKEN or verdict.witness is None:
                self.passed[item] = (contract, verdict)
            elif fixed is not None and self._is_hopeless(item, verdict, fixed):
                self.hopeless[item] = verdict
            else:
                self.counterexamples.append((item, verdict))
                broken = True
                if fixed is None:
                    break
        return broken

    def _known_to_hold(self, item: Item, contract: Contract) -> bool:
        if item in self.hopeless:
            return True
        held = self.passed.get(item)
        return held is not None and at_least_as_strict(held[0], contract, self.fields)

    def _is_hopeless(self, item: Item, verdict: Verdict, fixed: dict[str, Any]) -> bool:
        """Whether a counterexample breaks its clause whatever is promised."""
        free = [f for f in self.fields if f.alternatives and f.name not in fixed and f.values[-1] != "any"]
        choices = product(*(f.values for f in free))
        names = [f.name for f in free]
        lax = (
            laxest(self.fields, narrow, **fixed, **dict(zip(names, values, strict=True)))
            for values in choices
            for narrow in NARROW
        )
        return all(self._breaks(item, verdict, contract) for contract in lax)

    def _breaks(self, item: Item, verdict: Verdict, contract: Contract) -> bool:
        """Whether the witness of a verdict breaks its clause by another contract."""
        clause, witness = clause_named(item.clause), verdict.witness
        described = replace(self.source.description, contract=contract)
        context = context_of(described, self.task, item)
        if witness is None or clause.applies(context) is not None:
            return False
        if failure_of(clause, witness.trial, witness.replies) is not None:
            return True
        return judge_trial(clause, witness.trial, witness.replies, context).finding is not None

    def _agrees(self, contract: Contract) -> bool:
        """Whether no counterexample breaks a contract; the latest are asked first."""
        return not any(
            item not in self.hopeless and self._breaks(item, verdict, contract)
            for item, verdict in reversed(self.counterexamples)
        )

    def _proposal(self, fixed: dict[str, Any], exp_ulp: float) -> Contract | None:
        """The tightest contract that agrees with every counterexample, one field after the other."""
        contract = next(filter(self._agrees, self._starts(fixed, exp_ulp)), None)
        if contract is None:
            return None
        for f in self.fields:
            if f.name in fixed:
                continue
            for value in f.values:
                tighter = replace(contract, **{f.name: value})
                if tighter == contract or self._agrees(tighter):
                    contract = tighter
                    break
        return contract

    def _starts(self, fixed: dict[str, Any], exp_ulp: float) -> Iterator[Contract]:
        """Contracts to make tighter: the usual arithmetic, then one thing laxer, then more and more."""
        arithmetic = [f for f in self.fields if f.name in ARITHMETIC]
        lax = {f.name: f.values[-1] for f in self.fields if f.name not in ARITHMETIC and not f.forward}
        base = Contract(**(lax | {"exp_ulp": exp_ulp} | fixed))
        steps: list[dict[str, Any]] = [{}, {"exp_ulp": LARGEST_EXP_ULP}]
        steps += [{f.name: value} for f in arithmetic for value in f.values[f.usual + 1 :]]
        for narrow in NARROW:
            least = laxest(self.fields, narrow)
            laxer = [{f.name: getattr(least, f.name)} for f in arithmetic]
            steps += accumulate([*steps[1:2], *laxer, {"exp_ulp": EXP_ULPS[-1]}], lambda one, two: one | two)
        conventions = [f for f in self.fields if f.forward and f.name not in fixed]
        for step in steps:
            for values in product(*(f.values for f in conventions)):
                named = dict(zip((f.name for f in conventions), values, strict=True))
                yield replace(base, **step, **named)

    def _decision(self, f: ContractField, contract: Contract, verdicts: Sequence[Verdict]) -> Decision:
        value = getattr(contract, f.name)
        cases = sum(v.cases for v in verdicts if v.status == "pass" and f.spoken_of(v.clause, v.op))
        stricter = f.values[: f.values.index(value)]
        refuted = ""
        if stricter:
            other = replace(contract, **{f.name: stricter[-1]})
            refuted = next((i.clause for i, w in self.counterexamples if self._breaks(i, w, other)), "")
        return Decision(f.name, value, cases, refuted)


def contract_toml(inferred: Inferred, asked: str) -> str:
    """Return an inferred contract as TOML, each field with what it rests on.

    Parameters
    ----------
    asked : what was tried, for the first line: profile and seed, in words.
    """
    decided = [d for d in inferred.decisions if d.decided]
    undecided = [d.name for d in inferred.decisions if not d.decided]
    ops, dtypes = (
        list(dict.fromkeys(getattr(v, name) for v in inferred.verdicts)) for name in ("op", "dtype")
    )
    head = [
        f"# The tightest contract that {inferred.name} meets: {', '.join(ops)} in {', '.join(dtypes)},",
        f"# {asked}; each field with the number of cases that it rests on.",
    ]
    tail = f"# Not decided, since nothing that was tried speaks of them: {', '.join(undecided)}.\n"
    table = toml_table({d.name: d.value for d in decided}, {d.name: _grounds(d) for d in decided})
    return "\n".join([*head, table]) + (tail if undecided else "")


def _grounds(decision: Decision) -> str:
    grounds = f"{decision.cases} case{'' if decision.cases == 1 else 's'}"
    return f"{grounds}; a stricter one breaks {decision.refuted}" if decision.refuted else grounds
