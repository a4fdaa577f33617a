"""Cells that are evaluated by row, where something asks for them: what stands behind the fast path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from softcert.reference.cells import Cell, Cells
from softcert.reference.interval import Interval


class _Values(Sequence[Cell]):
    """The cells of all rows, in order."""

    def __init__(self, owner: LazyCells) -> None:
        self._owner = owner

    def __len__(self) -> int:
        return self._owner.count

    @overload
    def __getitem__(self, k: int) -> Cell: ...
    @overload
    def __getitem__(self, k: slice) -> Sequence[Cell]: ...
    def __getitem__(self, k: int | slice) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        cells, place = self._owner.at(k)
        return cells.values[place]

    def __iter__(self) -> Iterator[Cell]:
        return (self[k] for k in range(len(self)))


class LazyCells(Cells):
    """One cell an element, rows of equal length, each row evaluated by an oracle when it is first needed.

    Parameters
    ----------
    rows, length : how many rows there are, and how many elements each has.
    place : adds the cells of one row, by its number, and gives the place of each of its elements.
    """

    def __init__(self, rows: int, length: int, place: Callable[[Cells, int], list[int]]) -> None:
        super().__init__()
        self.count = rows * length
        self._length = length
        self._place = place
        self._rows: dict[int, tuple[Cells, list[int]]] = {}
        self.values = _Values(self)  # type: ignore[assignment]  # nothing appends to these

    def at(self, k: int) -> tuple[Cells, int]:
        """The cells of element k's row, and its place among them."""
        row, column = divmod(k, self._length)
        if row not in self._rows:
            fresh = Cells()
            self._rows[row] = fresh, self._place(fresh, row)
        cells, index = self._rows[row]
        return cells, index[column]

    def precision(self, k: int) -> int | None:
        """Working precision of cell k in bits; None where it is exact."""
        cells, place = self.at(k)
        return cells.precision(place)

    def refine(self, k: int, *bits: int) -> None:
        """Evaluate cell k's block again, as `Cells.refine`."""
        cells, place = self.at(k)
        cells.refine(place, *bits)

    def rational(self, k: int, prec: int) -> Interval | float:
        """Cell k as an interval or float, as `Cells.rational`."""
        cells, place = self.at(k)
        return cells.rational(place, prec)
