"""What a mover works on, and what a mover is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_growing import with_operands
from softcert.conformance.inputs.families import Scale, to_dtype
from softcert.conformance.spec import Seedling

if TYPE_CHECKING:
    from numpy.random import Generator

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """What a mover works on.

    Attributes
    ----------
    rng : every random choice is taken from it.
    parent : the input to be changed.
    mate : another of the population, perhaps the same.
    """

    rng: Generator
    context: Context
    parent: Seedling
    mate: Seedling

    @property
    def scale(self) -> Scale:
        """Thresholds of the dtype."""
        return Scale.of(self.context.dtype)

    def number(self, name: str) -> Float:
        """An operand of attention by its name, in binary64."""
        return self.parent.operands[self.parent.names.index(name)].astype(np.float64)

    def child(self, **changed: Float) -> Seedling:
        """The parent with some operands of attention replaced, each rounded to the dtype that it had."""
        own = dict(zip(self.parent.names, self.parent.operands, strict=True))
        rounded = {name: to_dtype(a, own[name].dtype.name) for name, a in changed.items()}
        return with_operands(self.parent, **rounded)


#: Makes a new input, or None where it has nothing to give.
Mover = Callable[[Scene], "Seedling | None"]
