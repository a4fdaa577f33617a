"""Repeat the one case of a witness."""

from __future__ import annotations

from dataclasses import replace

from softcert.backends import Limits, Worker
from softcert.backends.types import Backend, Contract, Failure, Reply
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.examine import failure_of, judge_trial
from softcert.conformance.model import RequestError, Status, Verdict, Witness


def replay(
    witness: Witness, subject: str | Backend | None = None, contract: Contract | None = None
) -> Verdict:
    """Make the calls of a witness again, and judge them again by its clause.

    Parameters
    ----------
    subject : asked in place of the one that the witness names.
    contract : judge by this contract in place of the subject's own.

    Raises
    ------
    RequestError : no clause has the witness's id, or the subject lacks its op.
    SubjectError : the subject cannot be loaded.
    """
    clause = next((c for c in CLAUSES if c.id == witness.clause), None)
    if clause is None:
        raise RequestError(
            f"the witness speaks of clause {witness.clause!r}, which this version does not have"
        )
    spec = witness.subject if subject is None else subject
    op = witness.op if isinstance(spec, str) else None
    with Worker(spec, op=op, contract=contract, limits=Limits()) as worker:
        described = worker.description
        missing = sorted({c.op for c in witness.trial.calls} - set(described.ops))
        if missing:
            raise RequestError(f"{described.name} has no op {missing[0]!r}, which the witness calls")
        context = Context(
            op=witness.op,
            dtype=witness.dtype,
            contract=described.contract,
            beta=described.beta,
            ops=tuple(described.ops),
        )
        replies: tuple[Reply, ...] = tuple(worker.call(call) for call in witness.trial.calls)
    verdict = Verdict(clause=clause.id, op=witness.op, dtype=witness.dtype, status="pass", cases=1)
    failure = failure_of(witness.trial, replies, judged_by_shape=clause.inspect is None)
    if failure is not None or any(isinstance(r, Failure) for r in replies):
        finding = failure
    else:
        judgement = judge_trial(clause, witness.trial, replies, context)
        finding = judgement.finding
        verdict = replace(
            verdict,
            elements=judgement.elements,
            error_max=judgement.error_ulp,
            error_mean=judgement.mean_ulp,
            bound_ulp=judgement.bound_ulp,
            margin=judgement.margin,
        )
    if finding is None:
        return verdict
    shown = replace(
        witness, subject=str(spec) if isinstance(spec, str) else spec.name, replies=replies, finding=finding
    )
    status: Status = "fail" if failure is None else "error"
    return replace(verdict, status=status, message=finding.message, witness=shown)
