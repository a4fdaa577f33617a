"""Ground truth: every op as certified enclosures of the exact mathematical value."""

from softcert.reference.attention import attention, attention_lse, attention_merge
from softcert.reference.attention_check import ATTENTION_OPS, cross_check_attention
from softcert.reference.attention_gradients import attention_vjp
from softcert.reference.cross_check import OPS, cross_check
from softcert.reference.cross_entropy import cross_entropy, cross_entropy_vjp
from softcert.reference.enclosure import Enclosure
from softcert.reference.entmax import entmax, entmax_vjp
from softcert.reference.errors import DomainError, OracleDisagreement, UndecidedRounding
from softcert.reference.formats import FORMATS, FloatFormat, format_of
from softcert.reference.gradients import (
    exact_sum,
    logsumexp_hessian,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from softcert.reference.interval import Interval
from softcert.reference.softmax import log_softmax, logsumexp, softmax
from softcert.reference.sparsemax import sparsemax, sparsemax_vjp

__all__ = [
    "ATTENTION_OPS",
    "FORMATS",
    "OPS",
    "DomainError",
    "Enclosure",
    "FloatFormat",
    "Interval",
    "OracleDisagreement",
    "UndecidedRounding",
    "attention",
    "attention_lse",
    "attention_merge",
    "attention_vjp",
    "cross_check",
    "cross_check_attention",
    "cross_entropy",
    "cross_entropy_vjp",
    "entmax",
    "entmax_vjp",
    "exact_sum",
    "format_of",
    "log_softmax",
    "logsumexp",
    "logsumexp_hessian",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "sparsemax",
    "sparsemax_vjp",
]
