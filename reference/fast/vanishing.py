"""Gradients that vanish exactly because every value that counts is the output itself.

A query that sees one key gets that key's value, and one that sees equal values gets their common one: then
dP_ij - D_i = sum_c dout_ic (v_jc - out_ic) is a sum of zeros. In double words it is 0 up to an error, which
does not say so; the operands do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.attention_operands import BackwardOperands
from softcert.reference.fast.marks import shown_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Marks = NDArray[np.bool_]

#: Numbers compared at a time.
_CHUNK = 1 << 20


def vanishing_queries(given: BackwardOperands, wanted: Marks) -> Marks:
    """Which of the queries wanted, (H, L), see no key whose value differs from their output."""
    found = np.zeros_like(wanted)
    for head, queries in enumerate(map(np.flatnonzero, wanted)):
        for part in _parts(queries, given.heads.v[0].size):
            found[head, part] = ~_slopes(given, head, part, slice(None)).any(axis=1)
    return found


def vanishing_keys(given: BackwardOperands, wanted: Marks) -> Marks:
    """Which of the keys wanted, (G, S), are seen by no query whose output differs from their value."""
    found = np.zeros_like(wanted)
    sharing = given.heads.sharing
    for group, keys in enumerate(map(np.flatnonzero, wanted)):
        for part in _parts(keys, given.out[0].size):
            met = [
                _slopes(given, head, np.arange(given.out.shape[1]), part).any(axis=0)
                for head in range(group * sharing, (group + 1) * sharing)
            ]
            found[group, part] = ~np.any(met, axis=0)
    return found


def _parts(places: NDArray[np.int64], width: int) -> Iterator[NDArray[np.int64]]:
    step = max(1, _CHUNK // max(1, width))
    for start in range(0, len(places), step):
        yield places[start : start + step]


def _slopes(
    given: BackwardOperands, head: int, queries: NDArray[np.int64], keys: slice | NDArray[np.int64]
) -> Marks:
    """Which pairs count and may have dP - D other than 0, (queries, keys)."""
    heads = given.heads
    shown, _ = shown_keys(heads.seen, head, queries, heads.k.shape[1])
    values, counts = heads.v[head // heads.sharing][keys], given.dout[head, queries] != 0.0
    differs = ((values[None] != given.out[head, queries][:, None]) & counts[:, None]).any(axis=2)
    return np.asarray(shown[:, keys] & differs)
