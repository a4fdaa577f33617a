"""Ground truth: every op as certified enclosures of the exact mathematical value."""

from .cross_check import OPS, cross_check
from .enclosure import Enclosure
from .errors import DomainError, OracleDisagreement, UndecidedRounding
from .formats import FORMATS, FloatFormat, format_of
from .gradients import exact_sum, logsumexp_hessian, softmax_jacobian, softmax_jvp, softmax_vjp
from .interval import Interval
from .softmax import log_softmax, logsumexp, softmax

__all__ = [
    "FORMATS",
    "OPS",
    "DomainError",
    "Enclosure",
    "FloatFormat",
    "Interval",
    "OracleDisagreement",
    "UndecidedRounding",
    "cross_check",
    "exact_sum",
    "format_of",
    "log_softmax",
    "logsumexp",
    "logsumexp_hessian",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
]
