"""Pure Python kernels, as tutorials write them, with their slips."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np


def _along_rows(x, one):
    rows = x.reshape(-1, x.shape[-1]).tolist()
    return np.array([one(row) for row in rows], dtype=x.dtype).reshape(x.shape)


def _finite(row):
    return all(math.isfinite(v) for v in row)


def _plain(row):
    m = max(row)
    if any(math.isnan(v) for v in row) or not math.isfinite(m):
        return [math.nan] * len(row)
    e = [math.exp(v - m) for v in row]
    s = math.fsum(e)
    return [v / s for v in e]


def overflow_error(x):
    """math.exp raises OverflowError where NumPy gives inf."""
    return _along_rows(x, lambda row: [math.exp(v) / sum(math.exp(w) for w in row) for v in row])


def list_of_lists_flattened(x):
    """All rows share one sum."""
    flat = _plain(x.reshape(-1).tolist()) if x.size else []
    return np.array(flat, dtype=x.dtype).reshape(x.shape)


def maximum_without_nan_care(x):
    """max() of a list with a NaN depends on its place, and the NaN is skipped when summing."""

    def one(row):
        known = [v for v in row if v == v]
        if not known or not math.isfinite(max(known)):
            return [math.nan] * len(row)
        m = max(known)
        s = math.fsum(math.exp(v - m) for v in known)
        return [math.exp(v - m) / s if v == v else math.nan for v in row]

    return _along_rows(x, one)


def decimal_of_six_digits(x):
    """Decimal arithmetic with a context of six digits."""

    def one(row):
        if not _finite(row):
            return _plain(row)
        with localcontext() as context:
            context.prec = 6
            m = max(row)
            e = [(Decimal(v) - Decimal(m)).exp() if v - m > -800 else Decimal(0) for v in row]
            s = sum(e)
            return [float(v / s) for v in e]

    return _along_rows(x, one)


def fractions_limited(x):
    """Probabilities become fractions with denominators up to a million."""
    return _along_rows(
        x,
        lambda row: [float(Fraction(v).limit_denominator(10**6)) if v == v else v for v in _plain(row)],
    )


def dictionary_by_value(x):
    """Weights in a dictionary keyed by logit: the sum runs over its keys, so ties count once."""

    def one(row):
        if not _finite(row):
            return _plain(row)
        m = max(row)
        weights = {v: math.exp(v - m) for v in row}
        s = math.fsum(weights.values())
        return [weights[v] / s for v in row]

    return _along_rows(x, one)


def stops_at_first_negligible(x):
    """The loop over the row ends at the first weight below 1e-300, which need not be the smallest."""

    def one(row):
        if not _finite(row):
            return _plain(row)
        m = max(row)
        s = 0.0
        for v in row:
            weight = math.exp(v - m)
            if weight < 1e-30:
                break
            s += weight
        return [math.exp(v - m) / s if s else 0.0 for v in row]

    return _along_rows(x, one)


def integer_division_of_counts(x):
    """Rows where all logits are equal return 1 // n."""
    return _along_rows(
        x, lambda row: [float(1 // len(row))] * len(row) if len(set(row)) == 1 else _plain(row)
    )
