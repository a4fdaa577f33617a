"""Draw the figures of docs/explanation from certified values: every point is a number of the reference.

    python tools/figures.py

writes docs/_static/figures/*.svg; the same library of plots gives the same bytes. No figure rests on a
sample, nor on what a backend computes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from softcert import reference
from softcert.reference import Enclosure

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "_static" / "figures"
COLOURS = ("#0b5fa5", "#c2410c", "#3f7d20", "#7a3fa0")
DASHES = ("-", "--", "-.", ":")
_STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "softcert",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.6,
    "legend.framealpha": 1.0,
    "legend.edgecolor": "white",
}


class Curve(NamedTuple):
    """A curve of certified values.

    Attributes
    ----------
    points : (place, value): the value is the midpoint of an enclosure narrower than 10^-15 of it.
    """

    name: str
    points: Sequence[tuple[float, float]]


class Plot(NamedTuple):
    """Curves on one pair of axes; `levels` are constants drawn across, named at the end `named_at`."""

    title: str
    across: str
    up: str
    curves: Sequence[Curve]
    levels: Sequence[tuple[str, float]] = ()
    logarithmic: tuple[bool, bool] = (False, False)
    named_at: str = "right"


def value_of(enclosure: Enclosure) -> float:
    """Midpoint of an enclosure of one number.

    Raises
    ------
    ArithmeticError : it is wider than a plot may hide.
    """
    low, high = (Fraction(str(end)) for end in enclosure.reshape(()).bounds_decimal(20))
    if high - low > abs(low) * Fraction(1, 10**15):
        raise ArithmeticError(f"the enclosure [{low}, {high}] is too wide to be drawn as a point")
    return float((low + high) / 2)


def powers(low: float, high: float, steps: int = 80) -> list[float]:
    """Places at equal ratios, powers of ten from `low` to `high`."""
    return [10.0 ** (low + (high - low) * k / steps) for k in range(steps + 1)]


def places(low: float, high: float, steps: int = 120) -> list[float]:
    """Places at equal distances."""
    return [low + (high - low) * k / steps for k in range(steps + 1)]


def _distance(gap: float, beta: float) -> float:
    """1-norm of softmax - arg max of (0, -gap): twice the second probability."""
    return 2.0 * value_of(reference.softmax([0.0, -gap], beta=beta)[1])


def rates() -> Plot:
    """Distance to arg max against beta, by the gap."""
    curves = [
        Curve(f"gap {gap:g}", [(beta, _distance(gap, beta)) for beta in powers(-1, 4) if beta * gap < 60])
        for gap in (10.0, 1.0, 0.1, 0.01)
    ]
    title = "softmax(beta x) tends to arg max as 2R/(1 + R), R = exp(-beta gap)"
    return Plot(title, "beta", "1-norm of softmax - arg max", curves, logarithmic=(True, True))


def near_ties() -> Plot:
    """Distance to arg max against the gap, by beta: at every beta it tends to 1/2 as the gap vanishes."""
    curves = [
        Curve(
            f"beta {beta:g}",
            [(gap, value_of(reference.softmax([0.0, -gap], beta=beta)[1])) for gap in powers(-6, 1)],
        )
        for beta in (1.0, 10.0, 100.0, 1000.0)
    ]
    title = "At every beta some pair is 1/2 away: no uniform convergence"
    levels = [("1/2, the supremum over all gaps", 0.5)]
    return Plot(title, "gap", "largest |softmax - arg max|", curves, levels, (True, False))


def mean_gaps() -> Plot:
    """max - mean against the common gap of n - 1 logits, and the bound W((n - 1)/e)."""

    def mean(n: int, gap: float) -> float:
        weight = value_of(reference.softmax([0.0, *([-gap] * (n - 1))])[1])
        return gap * (n - 1) * weight

    curves = [Curve(f"n = {n}", [(d, mean(n, d)) for d in places(0.1, 12, 60)]) for n in (2, 10, 100, 1000)]
    levels = [(f"W({n - 1}/e)", value_of(reference.largest_mean_gap(n))) for n in (2, 10, 100, 1000)]
    title = "beta (max - mean) of one maximum and n - 1 equal logits"
    return Plot(title, "beta gap", "beta (max - mean)", curves, levels)


def schottky() -> Plot:
    """Heat capacity of a system of two levels, by the degeneracy of the upper one."""
    curves = [
        Curve(
            f"{g} upper state{'s' if g > 1 else ''}",
            [
                (t, value_of(reference.heat_capacity([0.0, *([1.0] * g)], beta=1 / Fraction(t))))
                for t in places(0.05, 3)
            ],
        )
        for g in (1, 2, 4)
    ]
    title = "Heat capacity of two levels: the Schottky peak"
    return Plot(title, "k T / level spacing", "C / k", curves)


def exploration() -> Plot:
    """Probability of the best of four actions against the temperature, by the values of the others."""
    rows = {
        "(1, 0.5, 0.25, 0)": [1.0, 0.5, 0.25, 0.0],
        "(1, 0.9, 0.5, 0)": [1.0, 0.9, 0.5, 0.0],
        "(1, 1, 0.5, 0): two best": [1.0, 1.0, 0.5, 0.0],
    }
    curves = [
        Curve(name, [(t, value_of(reference.softmax(row, beta=1 / Fraction(t))[0])) for t in powers(-2, 2)])
        for name, row in rows.items()
    ]
    title = "From greedy to uniform: probability of a best action"
    levels = [("1/4, uniform", 0.25)]
    return Plot(title, "temperature", "probability", curves, levels, (True, False), "left")


FIGURES: Mapping[str, Callable[[], Plot]] = {
    "limits-rates": rates,
    "limits-near-ties": near_ties,
    "limits-mean": mean_gaps,
    "boltzmann-schottky": schottky,
    "exploration": exploration,
}


def draw(plot: Plot, path: Path) -> None:
    """Draw a plot as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(dict(_STYLE)):
        figure = Figure(figsize=(6.2, 3.4), layout="constrained")
        axes = figure.subplots()
        for k, curve in enumerate(plot.curves):
            across, up = zip(*curve.points, strict=True)
            axes.plot(across, up, color=COLOURS[k], linestyle=DASHES[k], label=curve.name)
        for k, (name, level) in enumerate(plot.levels):
            own = len(plot.levels) == len(plot.curves)
            axes.axhline(level, color=COLOURS[k] if own else "#444444", linewidth=0.8)
            end = (1.0 if plot.named_at == "right" else 0.01, level)
            axes.annotate(name, end, xycoords=("axes fraction", "data"), ha=plot.named_at, va="bottom")
        for logarithmic, scale in zip(plot.logarithmic, (axes.set_xscale, axes.set_yscale), strict=True):
            scale("log" if logarithmic else "linear")
        axes.set(title=plot.title, xlabel=plot.across, ylabel=plot.up)
        axes.legend()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(path, format="svg", metadata=metadata)


def main() -> int:
    """Draw every figure."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        draw(make(), FOLDER / f"{name}.svg")
        sys.stdout.write(f"{FOLDER / name}.svg\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
