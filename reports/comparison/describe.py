"""A comparison in words and tables: the one text that a terminal, Markdown and HTML show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from softcert.reports.comparison.model import (
    KINDS,
    AccuracyChange,
    Comparison,
    Pair,
    SpeedChange,
    StatusChange,
)
from softcert.reports.comparison.significance import ALPHA
from softcert.reports.document import Column, Document, Row, Section, Sentence, Table, Tone
from softcert.reports.wording import above, count, interval, number, seconds

#: How each kind of change of a status is meant.
_TONES: dict[str, Tone] = {
    "broken": "worse",
    "found": "unsure",
    "unexpected": "unsure",
    "silenced": "unsure",
    "conceded": "unsure",
    "mended": "better",
    "shown": "better",
}
_ROUNDS = (
    "The rounds of two runs are not interleaved, as those of the subjects of one run are: what the machine "
    "did meanwhile stands in their ratio. So each ratio is held against the drift, the factor by which the "
    "plain copy of the same bytes changed between the runs (of the row itself or in the middle of all rows, "
    "whichever is more), and is called slower or faster only beyond it."
)
_INTERVALS = (
    "Errors are certified intervals: one is called larger or smaller only where the intervals do not overlap "
    "and the larger lies above half an ulp, below which results are correctly rounded. Largest errors are "
    "those seen on the inputs tried."
)


def describe(comparison: Comparison) -> Document:
    """Return a comparison as a document."""
    return Document(
        title=f"softcert compare: {comparison.old} → {comparison.new}",
        headline=_headline(comparison),
        sections=(
            Section("worse", "What got worse", tuple(_worse(comparison))),
            Section("cautions", "What to keep in mind", tuple(_cautions(comparison))),
            _statuses(comparison),
            _accuracy(comparison),
            _errors(comparison),
            _speed(comparison),
            _differences(comparison),
        ),
    )


def _headline(comparison: Comparison) -> Sentence:
    broken = {(id(pair), change.clause) for pair, change in comparison.broken}
    parts = [
        count(len(broken), "clause") + " newly broken" if broken else "",
        f"less accurate in {count(len(comparison.fallen), 'place')}" if comparison.fallen else "",
        f"{count(len(comparison.slower), 'time')} beyond the threshold" if comparison.slower else "",
    ]
    told = ", ".join(filter(None, parts))
    if told:
        return Sentence(f"{comparison.new} is worse than {comparison.old}: {told}.", "worse")
    mended = sum(change.kind == "mended" for pair in comparison.pairs for change in pair.statuses)
    better = sum(_tone(change) == "better" for pair in comparison.pairs for change in pair.accuracy)
    slower = sum(change.verdict == "slower" for pair in comparison.pairs for change in pair.speeds)
    parts = [
        f"{count(mended, 'verdict')} newly passing" if mended else "",
        f"more accurate in {count(better, 'place')}" if better else "",
        f"{count(slower, 'time')} longer, which counts for nothing here" if slower else "",
    ]
    told = "; ".join(filter(None, parts))
    text = f"Nothing certainly got worse from {comparison.old} to {comparison.new}"
    tone: Tone = "unsure" if slower else "better" if told else ""
    return Sentence(f"{text}; {told}." if told else f"{text}.", tone)


def _label(comparison: Comparison, pair: Pair) -> str:
    """The subject's name, where there are several to be told apart."""
    return pair.label if len(comparison.pairs) > 1 else ""


def _worse(comparison: Comparison) -> Iterator[Sentence]:
    places: dict[tuple[str, str, str], list[str]] = {}
    for pair, change in comparison.broken:
        key = (_label(comparison, pair), change.clause, change.message)
        places.setdefault(key, []).append(f"{change.op} {change.dtype}")
    for (label, clause, message), where in places.items():
        text = f"{clause} is newly broken ({', '.join(where)}): {message}"
        yield Sentence(f"{label}: {text}" if label else text, "worse")
    for pair, fall in comparison.fallen:
        yield Sentence(_prefixed(comparison, pair, _fall(fall)), "worse")
    for pair, slow in comparison.slower:
        yield Sentence(_prefixed(comparison, pair, _slower(slow)), "worse")


def _prefixed(comparison: Comparison, pair: Pair, text: str) -> str:
    label = _label(comparison, pair)
    return f"{label}: {text}" if label else text


def _fall(change: AccuracyChange) -> str:
    where = " ".join(filter(None, (change.clause, change.op, change.dtype)))
    parts = []
    if change.grade == "smaller":
        parts.append(f"the grade fell from {change.old.grade} to {change.new.grade}")
    if change.error == "larger":
        parts.append(
            f"the largest error was {interval(change.old.error)} ulp and is {interval(change.new.error)} ulp"
        )
    return f"{where}: {'; '.join(parts)}"


def _slower(change: SpeedChange) -> str:
    return (
        f"{_where(change)} takes {number(change.ratio, 3)} times as long, {_interval(change)}, "
        f"which is certainly more than {number(change.allowed, 3)} times"
    )


def _where(change: SpeedChange) -> str:
    return f"{change.op} {change.dtype} {_shape(change)}"


def _shape(change: SpeedChange) -> str:
    return " × ".join(map(str, change.shape))


def _cautions(comparison: Comparison) -> Iterator[Sentence]:
    told: dict[str, list[str]] = {}
    for pair in comparison.pairs:
        for caution in pair.cautions:
            told.setdefault(caution, []).append(pair.label)
    for caution, labels in told.items():
        everyone = len(labels) == len(comparison.pairs)
        yield Sentence(caution if everyone else f"{', '.join(labels)}: {caution}", "unsure")
    for pair in comparison.pairs:
        for amount, which in ((pair.only_old, "old"), (pair.only_new, "new")):
            if amount:
                text = f"{count(amount, 'verdict')} of the {which} run alone"
                yield Sentence(_prefixed(comparison, pair, text))
    for names, file in ((comparison.only_old, comparison.old), (comparison.only_new, comparison.new)):
        if names:
            yield Sentence(f"In {file} alone: {', '.join(names)}")


def _table(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    return Table(caption, tuple(columns), tuple(rows)).without_empty_columns()


_SUBJECT = Column("subject")
_PLACE = (Column("op"), Column("dtype"))


def _statuses(comparison: Comparison) -> Section:
    found = [(pair, change) for pair in comparison.pairs for change in pair.statuses]
    found.sort(key=lambda entry: list(KINDS).index(entry[1].kind))
    rows = [
        Row(
            (
                KINDS[change.kind],
                _label(comparison, pair),
                change.clause,
                change.op,
                change.dtype,
                change.old or "absent",
                change.new,
                _reason(change),
            ),
            _TONES[change.kind],
        )
        for pair, change in found
    ]
    columns = (Column("change"), _SUBJECT, Column("clause", "code"), *_PLACE, Column("was"), Column("is"))
    caption = "Clauses whose status changed."
    return Section(
        "clauses", "Clauses", table=_table(caption, (*columns, Column("what it says", brief=False)), rows)
    )


def _reason(change: StatusChange) -> str:
    return "" if change.new == "pass" else change.message


def _accuracy(comparison: Comparison) -> Section:
    rows = [
        Row(_accuracy_cells(change, _label(comparison, pair)), _tone(change))
        for pair in comparison.pairs
        for change in pair.accuracy
    ]
    columns = (
        _SUBJECT,
        *_PLACE,
        Column("was", "grade"),
        Column("is", "grade"),
        Column("error was", "number"),
        Column("error is", "number"),
        Column("error"),
        Column("/ bound was", "number"),
        Column("is", "number"),
        Column("elements", brief=False),
    )
    caption = (
        "Grade, largest certified error in ulps, and largest error / bound, over all clauses that grade."
    )
    return Section("accuracy", "Accuracy", table=_table(caption, columns, rows), notes=(_INTERVALS,))


def _accuracy_cells(change: AccuracyChange, label: str) -> tuple[str, ...]:
    old, new = change.old, change.new
    return (
        label,
        change.op,
        change.dtype,
        old.grade,
        new.grade,
        interval(old.error) if old.elements else "-",
        interval(new.error) if new.elements else "-",
        change.error or "not told apart",
        above(old.margin, 3) if old.elements else "-",
        above(new.margin, 3) if new.elements else "-",
        _inputs(change),
    )


def _inputs(change: AccuracyChange) -> str:
    if change.same_inputs:
        return f"{change.new.elements:,}, the same"
    return f"{change.old.elements:,}, then {change.new.elements:,}"


def _tone(change: AccuracyChange) -> Tone:
    if change.worse:
        return "worse"
    if not (change.error or change.grade):
        return ""
    better = change.same_inputs and change.error != "larger" and change.grade != "smaller"
    return "better" if better else "unsure"


def _errors(comparison: Comparison) -> Section:
    rows = [
        Row(
            (
                _label(comparison, pair),
                change.clause,
                change.op,
                change.dtype,
                interval(change.old.error),
                interval(change.new.error),
                change.error,
                above(change.old.margin, 3),
                above(change.new.margin, 3),
                _inputs(change),
            ),
            _tone(change),
        )
        for pair in comparison.pairs
        for change in pair.errors
    ]
    columns = (
        _SUBJECT,
        Column("clause", "code"),
        *_PLACE,
        Column("error was", "number"),
        Column("error is", "number"),
        Column("error"),
        Column("/ bound was", "number", brief=False),
        Column("is", "number", brief=False),
        Column("elements", brief=False),
    )
    caption = "Clauses whose largest certified error, in ulps, moved."
    return Section("errors", "Errors by clause", table=_table(caption, columns, rows))


def _speed(comparison: Comparison) -> Section:
    changes = [(pair, change) for pair in comparison.pairs for change in pair.speeds]
    columns = (
        _SUBJECT,
        *_PLACE,
        Column("shape"),
        Column("time was", "number"),
        Column("is", "number"),
        Column("ratio", "number"),
        Column("interval", "number"),
        Column("drift", "number"),
        Column("p", "number"),
        Column("verdict"),
    )
    rows = [
        Row(_speed_cells(change, _label(comparison, pair)), _speed_tone(comparison, pair, change))
        for pair, change in changes
    ]
    caption = "Median times, and the new time as a multiple of the old."
    notes = (_ROUNDS, _tests([change for _, change in changes], comparison.speed_threshold))
    return Section("speed", "Speed", table=_table(caption, columns, rows), notes=notes)


def _speed_cells(change: SpeedChange, label: str) -> tuple[str, ...]:
    return (
        label,
        change.op,
        change.dtype,
        _shape(change),
        seconds(change.seconds[0]),
        seconds(change.seconds[1]),
        number(change.ratio, 3),
        _interval(change),
        "unknown" if change.drift is None else number(change.drift, 3),
        "" if change.p is None else number(change.p, 2),
        change.note or {"undecided": "not told apart"}.get(change.verdict, change.verdict),
    )


def _interval(change: SpeedChange) -> str:
    if change.interval is None:
        return "too few rounds" if change.rounds else ""
    kind = "" if change.rounds else " (quartiles)"
    return f"[{number(change.interval[0], 3)}, {number(change.interval[1], 3)}]{kind}"


def _speed_tone(comparison: Comparison, pair: Pair, change: SpeedChange) -> Tone:
    if change.verdict == "faster":
        return "better" if pair.same_machine else "unsure"
    if change.verdict != "slower":
        return ""
    return "worse" if pair.same_machine and comparison.speed_threshold is not None else "unsure"


def _tests(changes: Sequence[SpeedChange], threshold: float | None) -> str:
    tested = sum(change.p is not None for change in changes)
    share = f"{ALPHA:.0%}".replace("%", " %")
    beyond = "" if threshold is None else f" or {threshold:.0%} beyond, if that is more".replace("%", " %")
    if not tested:
        return (
            "No row was tested: a test needs the rounds of both runs, and the copy beside them. An interval "
            "from quartile to quartile tells how the rounds scattered, and is no test."
        )
    return (
        f"{count(tested, 'row was', 'rows were')} tested: p is the chance of such ranks if the time had "
        f"changed by no more than the drift{beyond} (Mann and Whitney's rank sum, two-sided), adjusted by "
        "Holm for all of them, so that the chance of even one false alarm among them is at most "
        f"{share} as far as the rounds of a run do not depend on each other. Intervals are Hodges and "
        "Lehmann's, 95 % each."
    )


def _differences(comparison: Comparison) -> Section:
    told: dict[tuple[str, str, str, str], list[str]] = {}
    for pair in comparison.pairs:
        for found in pair.differences:
            key = (found.part, found.name, found.old, found.new)
            told.setdefault(key, []).append(pair.label)
    rows = [
        Row((*key, "" if len(labels) == len(comparison.pairs) else ", ".join(labels)))
        for key, labels in told.items()
    ]
    dates = sorted({pair.dates for pair in comparison.pairs})
    columns = (Column("part"), Column("what"), Column("was"), Column("is"), Column("of"))
    caption = "What else differs: machine, versions, request and contract."
    sentences = tuple(Sentence(f"Judged on {then}, then on {now}.") for then, now in dates if then and now)
    return Section("differences", "Differences of the runs", sentences, table=_table(caption, columns, rows))
