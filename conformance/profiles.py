"""How hard a run tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Profile:
    """Effort of a run; counts, never seconds, so that a fixed seed gives a fixed run.

    Attributes
    ----------
    examples : inputs that Hypothesis draws for a clause of effort 1.
    thorough : 0 leaves out the long rows, 1 takes them, more adds longer ones.
    shrinks : calls spent on making a witness smaller.
    """

    description: str
    examples: int
    thorough: float
    shrinks: int


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "smoke": Profile("seconds: directed inputs up to 4096 long, a few drawn ones", 8, 0.0, 150),
        "quick": Profile("about a minute a backend: every directed input, rows to 131072", 40, 1.0, 300),
        "full": Profile(
            "many minutes: rows beyond a million, a thousand drawn inputs a clause", 1000, 4.0, 2000
        ),
    }
)
