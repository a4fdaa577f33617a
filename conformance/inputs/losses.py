"""Inputs of losses: classes of rows of logits, ignored ones among them, and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from softcert.backends.ops import ROW_OPTIONS
from softcert.backends.types import Array
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import Scale, make_row
from softcert.conformance.spec import Seedling

#: Options of losses, the usual ones first.
OPTIONS: tuple[Mapping[str, float], ...] = (
    {},
    {"label_smoothing": 0.1},
    {"z_loss": 1e-4},
    {"label_smoothing": 0.3, "z_loss": 0.01},
    {"label_smoothing": 1.0},
    {"ignore_index": 0},
)
IGNORED = int(ROW_OPTIONS["cross_entropy"]["ignore_index"])
#: One row in so many is ignored, one has its likeliest class for a target, and one its least likely.
_KINDS = 8


def loss_operands(
    op: str, x: Array, seed: int, options: Mapping[str, float] | None = None
) -> tuple[Array, ...]:
    """Operands of a loss from its logits: a class a row, and for a gradient a cotangent a row.

    Parameters
    ----------
    x : logits (..., n), n along the last axis; one row alone is not ignored.
    options : those of the call, of which `ignore_index` says how an ignored row is marked.
    """
    *batch, n = x.shape
    count = int(np.prod(batch))
    rng = np.random.default_rng([seed, x.size, _KINDS])
    kinds = rng.integers(0, _KINDS, count)
    any_class, cotangents = rng.integers(0, max(n, 1), count), rng.standard_normal(count) * 4.0
    ignored = int((options or {}).get("ignore_index", IGNORED))
    target = any_class if n else np.full(count, ignored)
    if n:
        rows = x.reshape(count, n).astype(np.float64)
        target = np.where(kinds == 1, rows.argmax(axis=-1), target)
        target = np.where(kinds == 2, rows.argmin(axis=-1), target)
    if count > 1:
        target = np.where(kinds == 0, ignored, target)
    operands = (x, target.astype(np.int64).reshape(batch))
    return operands if op == "cross_entropy" else (*operands, cotangents.astype(x.dtype).reshape(batch))


def fits(x: Array, options: Mapping[str, float], dtype: str) -> bool:
    """Whether no correct way to compute a loss with these options overflows where the loss does not.

    The logarithms of all classes may be summed before their share is taken, and logsumexp be squared first.
    """
    finite = np.abs(x.astype(np.float64))
    size, largest = finite[np.isfinite(finite)].max(initial=0.0), Scale.of(dtype).largest
    if options.get("label_smoothing") and size > largest / (4.0 * x.shape[-1]):
        return False
    return not options.get("z_loss") or bool(size <= np.sqrt(largest) / 4.0)


def optioned_losses(context: Context) -> Iterator[Seedling]:
    """Rows of several classes under every option of a loss."""
    for options in OPTIONS[1:]:
        for family, n, spread in (
            ("normal", 3, 1.0),
            ("one-hot", 9, 1.0),
            ("ties", 37, 2.0),
            ("wide", 5, 1.0),
        ):
            x = np.stack([make_row(family, n, seed, spread, context.dtype) for seed in range(8)])
            if fits(x, options, context.dtype):
                yield Seedling(loss_operands(context.op, x, n, options), family=family, options=options)
