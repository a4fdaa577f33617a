"""What else differs between two runs: machine, versions, request, contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from softcert.conformance.model import Run
from softcert.conformance.outcome import describe_stop, is_stopped
from softcert.reports.comparison.model import Difference

#: Facts of the environment that make a machine another one.
_MACHINE = ("platform", "processor", "simd", "cores")
#: Libraries whose version decides which inputs are drawn.
_DRAWING = ("softcert", "hypothesis")
_ABSENT = "-"


def differences(old: Run, new: Run) -> tuple[Difference, ...]:
    """Return what differs, as text; the dates of the runs are no difference."""
    return tuple(
        Difference(part, name, _text(then.get(name)), _text(now.get(name)))
        for part, then, now in _parts(old, new)
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    )


def _parts(old: Run, new: Run) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    yield "machine", _machine(old), _machine(new)
    yield "version", _versions(old), _versions(new)
    yield "request", old.request, new.request
    yield "contract", old.contract, new.contract


def _machine(run: Run) -> Mapping[str, Any]:
    return {name: value for name, value in run.environment.items() if name not in ("versions", "date")}


def _versions(run: Run) -> Mapping[str, Any]:
    return dict(run.environment.get("versions", {}))


def _text(value: object) -> str:
    if value is None:
        return _ABSENT
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def is_same_machine(old: Run, new: Run) -> bool:
    """Whether two runs say the same of their machines."""
    return all(old.environment.get(name) == new.environment.get(name) for name in _MACHINE)


def asked_differently(old: Run, new: Run) -> tuple[str, ...]:
    """Return what makes the inputs of two runs others: "seed 0 and 1"; empty where nothing does."""
    then, now = _versions(old), _versions(new)
    asked = [(name, old.request.get(name), new.request.get(name)) for name in ("profile", "seed")]
    asked += [(f"{name} version", then.get(name), now.get(name)) for name in _DRAWING]
    return tuple(f"{name} {_text(a)} and {_text(b)}" for name, a, b in asked if a != b)


def cautions(old: Run, new: Run) -> Iterator[str]:
    """Yield what keeps a comparison of two runs from saying more, in sentences."""
    other = asked_differently(old, new)
    if other:
        yield (
            f"The runs rest on different inputs ({', '.join(other)}): that a grade or an error differs does "
            "not make the kernel another, and is not counted."
        )
    yield from (
        f"The {which} run was {describe_stop(run)}: what it did not reach is not compared."
        for which, run in (("old", old), ("new", new))
        if is_stopped(run)
    )
    if not is_same_machine(old, new):
        yield "The machines differ: times tell of them as much as of the kernel, and are not counted."
    if old.contract != new.contract:
        yield "The contracts differ, and with them the bounds: error / bound cannot be compared."
