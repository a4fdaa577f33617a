"""Repeat the one case of a witness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from softcert.backends import Limits, Worker
from softcert.backends.contract import Contract, as_contract
from softcert.backends.types import Failure, Reply
from softcert.conformance.context import Context
from softcert.conformance.examination.admission import (
    MISFITS,
    clause_of,
    require_fitting,
    require_taken,
    unrelated,
)
from softcert.conformance.examination.concessions import with_concession
from softcert.conformance.examination.examine import judge_trial, outputs_of
from softcert.conformance.judging.failures import failure_of
from softcert.conformance.model import Judgement, RequestError, Status, Verdict, Witness
from softcert.conformance.request import Subject, as_spec
from softcert.conformance.spec import Clause

_NOTHING = "nothing of this case can be judged"


def replay(
    witness: Witness,
    subject: Subject | None = None,
    contract: Contract | Mapping[str, Any] | None = None,
) -> Verdict:
    """Make the calls of a witness again, and judge them again by its clause.

    Parameters
    ----------
    subject : asked in place of the one that the witness names.
    contract : judge by this contract in place of the subject's own.

    Returns
    -------
    The verdict: a skip where the clause does not speak of the subject, vacuous where nothing was shown.

    Raises
    ------
    RequestError : the witness is no case that its clause can have, or none that the subject can be asked.
    SubjectError : the subject cannot be loaded.
    """
    clause = clause_of(witness)
    spec = as_spec(witness.subject if subject is None else subject, witness.op)
    op = witness.op if isinstance(spec, str) else None
    with Worker(spec, op=op, contract=as_contract(contract), limits=Limits()) as worker:
        described = worker.description
        require_taken(witness, described)
        context = Context.of(described, witness.op, witness.dtype)
        require_fitting(witness, clause, context)
        verdict = Verdict(clause=clause.id, op=witness.op, dtype=witness.dtype, status="pass", cases=1)
        unfit = clause.applies(context)
        if unfit is not None:
            return replace(verdict, status="skip", cases=0, message=unfit)
        replies: tuple[Reply, ...] = tuple(worker.call(call) for call in witness.trial.calls)
    named = str(spec) if isinstance(spec, str) else spec.name
    return _judged(verdict, clause, replace(witness, subject=named, replies=replies), context)


def _judged(verdict: Verdict, clause: Clause, witness: Witness, context: Context) -> Verdict:
    """Verdict on the replies that a witness now holds."""
    failure = failure_of(clause, witness.trial, witness.replies)
    failed = any(isinstance(reply, Failure) for reply in witness.replies)
    if failure is not None:
        return _broken(verdict, "error", replace(witness, finding=failure))
    if failed:
        return verdict
    judgement = _judgement(clause, witness, context)
    verdict = replace(
        verdict,
        elements=judgement.elements,
        error_max=judgement.error_ulp,
        error_mean=judgement.mean_ulp,
        bound_ulp=judgement.bound_ulp,
        margin=judgement.margin,
    )
    if judgement.finding is not None:
        results = outputs_of(witness.replies)
        finding = with_concession(judgement.finding, clause, witness.trial, results, context)
        return _broken(verdict, "fail", replace(witness, finding=finding))
    shown = judgement.elements > 0 or not any(call.operands[0].size for call in witness.trial.calls)
    return (
        verdict if shown and not judgement.vacuous else replace(verdict, status="vacuous", message=_NOTHING)
    )


def _judgement(clause: Clause, witness: Witness, context: Context) -> Judgement:
    try:
        return judge_trial(clause, witness.trial, witness.replies, context)
    except MISFITS as error:
        raise RequestError(unrelated(clause)) from error


def _broken(verdict: Verdict, status: Status, witness: Witness) -> Verdict:
    return replace(verdict, status=status, message=witness.finding.message, witness=witness)
