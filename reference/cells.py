"""The distinct values behind an enclosure's elements, and how each is made narrower.

A cell is an Interval, a Fraction (exact, not dyadic) or a float (exact: NaN or an infinity). Cells of
one row come in one block, because refining one entry of a softmax means evaluating the row again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from softcert.reference.errors import UndecidedRounding
from softcert.reference.formats import FloatFormat
from softcert.reference.interval import Interval, from_fraction
from softcert.reference.rounding import PRECISION_CAP, round_fraction, round_interval, start_precision

Cell = Interval | Fraction | float
Evaluate = Callable[[int], list[Interval]]


@dataclass
class Block:
    """Cells start, start + 1, ... that one evaluation gives, at precision `prec` now."""

    start: int
    prec: int
    evaluate: Evaluate


@dataclass
class Cells:
    """Distinct values, some of which can be refined."""

    values: list[Cell] = field(default_factory=list)
    _blocks: list[Block] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    def add_exact(self, value: Cell) -> int:
        """Append an exact value and return its place."""
        if isinstance(value, Fraction) and value.denominator & (value.denominator - 1) == 0:
            value = from_fraction(value, 1)  # dyadic, so this is exact
        self.values.append(value)
        return len(self.values) - 1

    def add_block(self, evaluate: Evaluate, prec: int) -> int:
        """Append what `evaluate` gives at precision `prec` and return the first one's place."""
        start = len(self.values)
        self.values.extend(evaluate(prec))
        self._blocks.append(Block(start, prec, evaluate))
        self._starts.append(start)
        self._ends.append(len(self.values))
        return start

    def _block_of(self, k: int) -> Block | None:
        at = bisect_right(self._starts, k) - 1
        return self._blocks[at] if at >= 0 and k < self._ends[at] else None

    def precision(self, k: int) -> int | None:
        """Working precision of cell k in bits; None where it is exact."""
        block = self._block_of(k)
        return block.prec if block else None

    def refine(self, k: int, least: int = 0, cap: int = PRECISION_CAP) -> None:
        """Evaluate cell k's block again, at twice the precision or at `least` bits, whichever is more.

        Raises
        ------
        UndecidedRounding : the precision would exceed `cap`.
        """
        block = self._block_of(k)
        prec = max(2 * block.prec, least) if block else 0
        if block is None or prec > cap:
            raise UndecidedRounding(f"not decided with {cap} bits of working precision")
        values = block.evaluate(prec)
        self.values[block.start : block.start + len(values)] = values
        block.prec = prec

    def rational(self, k: int, prec: int) -> Interval | float:
        """Cell k as an interval, a Fraction enclosed in `prec` bits; a float where it is none."""
        value = self.values[k]
        return from_fraction(value, prec) if isinstance(value, Fraction) else value


def round_cell(cells: Cells, k: int, fmt: FloatFormat) -> float:
    """Cell k correctly rounded, by Ziv's strategy: refine until one number is left.

    Raises
    ------
    UndecidedRounding : the precision cap was reached.
    """
    while True:
        value = cells.values[k]
        if isinstance(value, Fraction):
            return round_fraction(value, fmt)
        if isinstance(value, float):
            return math.nan if math.isinf(value) and not fmt.has_inf else value
        rounded = round_interval(value, fmt)
        if rounded is not None:
            return rounded
        cells.refine(k, start_precision(fmt.precision))
