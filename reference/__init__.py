"""Ground truth: every op as certified enclosures of the exact mathematical value."""

from softcert.reference.attention import attention, attention_lse, attention_merge
from softcert.reference.attention_check import ATTENTION_OPS, cross_check_attention
from softcert.reference.attention_gradients import attention_vjp
from softcert.reference.boltzmann import (
    heat_capacity,
    largest_mean_gap,
    log_partition_function,
    mean_energy,
)
from softcert.reference.cross_check import OPS, cross_check
from softcert.reference.cross_entropy import cross_entropy, cross_entropy_vjp
from softcert.reference.differentiated import (
    differentiated_logits,
    differentiated_logits_vjp,
    differentiated_multiplications,
    differentiated_softmax,
    differentiated_softmax_vjp,
)
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
from softcert.reference.gumbel import gumbel_argmax, gumbel_one_hot, gumbel_softmax, gumbel_softmax_vjp
from softcert.reference.gumbel_laws import (
    concrete_log_density,
    exp_concrete_log_density,
    gumbel_cdf,
    pair_cdf,
)
from softcert.reference.hierarchical import (
    hierarchical_log_softmax,
    hierarchical_log_softmax_vjp,
    hierarchical_softmax,
)
from softcert.reference.interval import Interval
from softcert.reference.sampled import sampled_softmax_loss, target_sampling
from softcert.reference.sampled_moments import (
    Moments,
    gradient_bias,
    importance_gradient,
    importance_log_partition,
    importance_partition,
    log_partition_bias,
    sampled_loss_moments,
    target_sampling_moments,
)
from softcert.reference.softmax import log_softmax, logsumexp, softmax
from softcert.reference.sparsemax import sparsemax, sparsemax_vjp
from softcert.reference.trees import Tree, balanced_tree, huffman_tree

__all__ = [
    "ATTENTION_OPS",
    "FORMATS",
    "OPS",
    "DomainError",
    "Enclosure",
    "FloatFormat",
    "Interval",
    "Moments",
    "OracleDisagreement",
    "Tree",
    "UndecidedRounding",
    "attention",
    "attention_lse",
    "attention_merge",
    "attention_vjp",
    "balanced_tree",
    "concrete_log_density",
    "cross_check",
    "cross_check_attention",
    "cross_entropy",
    "cross_entropy_vjp",
    "differentiated_logits",
    "differentiated_logits_vjp",
    "differentiated_multiplications",
    "differentiated_softmax",
    "differentiated_softmax_vjp",
    "entmax",
    "entmax_vjp",
    "exact_sum",
    "exp_concrete_log_density",
    "format_of",
    "gradient_bias",
    "gumbel_argmax",
    "gumbel_cdf",
    "gumbel_one_hot",
    "gumbel_softmax",
    "gumbel_softmax_vjp",
    "heat_capacity",
    "hierarchical_log_softmax",
    "hierarchical_log_softmax_vjp",
    "hierarchical_softmax",
    "huffman_tree",
    "importance_gradient",
    "importance_log_partition",
    "importance_partition",
    "largest_mean_gap",
    "log_partition_bias",
    "log_partition_function",
    "log_softmax",
    "logsumexp",
    "logsumexp_hessian",
    "mean_energy",
    "pair_cdf",
    "sampled_loss_moments",
    "sampled_softmax_loss",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "sparsemax",
    "sparsemax_vjp",
    "target_sampling",
    "target_sampling_moments",
]
